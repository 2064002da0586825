// Who may do what: reading is open where the dashboard listens on loopback only; changing the host needs the token, and where it
// listens elsewhere everything does. A page of another origin may do nothing, so that no web site reaches a dashboard through
// its reader's browser. Pure rules; who asks them is elsewhere.
import { createHash, timingSafeEqual } from 'node:crypto';

export interface AccessRules {
  /** Address it listens at. */
  readonly bind: string;
  readonly token: string;
  /** Origins allowed beside its own. */
  readonly origins: readonly string[];
}

/** What a request shows of itself. */
export interface Visitor {
  /** Header `host`. */
  readonly host: string | undefined;
  /** Header `origin`; programs that are no browsers send none. */
  readonly origin: string | undefined;
  readonly token: string | undefined;
}

export type Right = 'none' | 'read' | 'change';

const LOOPBACK_NAMES: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]']);

export const isLoopback = (address: string): boolean =>
  address === 'localhost' || address === '::1' || /^127(\.\d{1,3}){3}$/.test(address);

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Takes as long for a wrong token as for the right one. */
export const isToken = (given: string | undefined, token: string): boolean =>
  given !== undefined && timingSafeEqual(digest(given), digest(token));

function hostNameOf(host: string | undefined): string | null {
  if (host === undefined) return null;
  try {
    return new URL(`http://${host}`).hostname;
  } catch {
    return null;
  }
}

/** Of the same host and port as the request went to, or one that the operator named. */
function isOwnOrigin({ host, origin }: Visitor, origins: readonly string[]): boolean {
  if (origin === undefined) return true;
  if (origins.includes(origin)) return true;
  try {
    return host !== undefined && new URL(origin).host === host;
  } catch {
    return false;
  }
}

/**
 * A name that resolves to loopback is no loopback name: otherwise a web site could point its own name here and read what
 * is open to this machine's users only.
 */
function isOwnHost({ host }: Visitor, { bind, origins }: AccessRules): boolean {
  if (!isLoopback(bind)) return true;
  const name = hostNameOf(host);
  return (
    name !== null &&
    (LOOPBACK_NAMES.has(name) || isLoopback(name) || origins.some((o) => hostNameOf(new URL(o).host) === name))
  );
}

export function rightOf(visitor: Visitor, rules: AccessRules): Right {
  if (!isOwnHost(visitor, rules) || !isOwnOrigin(visitor, rules.origins)) return 'none';
  if (isToken(visitor.token, rules.token)) return 'change';
  return isLoopback(rules.bind) ? 'read' : 'none';
}

/** The token of an `authorization` header. */
export const bearerOf = (header: string | undefined): string | undefined => /^Bearer +(\S+)$/i.exec(header ?? '')?.[1];
