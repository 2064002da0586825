// What an xl verb is here: a function of the toolstack and its arguments that gives what xl would print and its exit status.
// Shared by all verbs: how a domain is named, and how a refusal is said.

import { xlMessage } from '#formats/xl-output';
import type { DomainInfo } from '#model/hypercall/calls';
import { ERROR_INVAL } from '#model/toolstack/passthrough-policy';
import type { XlReply } from '#wire/messages';
import type { ToolstackConfig } from '../config.ts';
import type { Dom0Service } from '../dom0.service.ts';
import type { DomainsService } from '../domains.service.ts';
import type { PlacementService } from '../placement.service.ts';
import type { SqueezedService } from '../squeezed.service.ts';
import type { XenstoreService } from '../xenstore.service.ts';

export interface Toolstack {
  readonly config: ToolstackConfig;
  readonly dom0: Dom0Service;
  readonly domains: DomainsService;
  readonly placement: PlacementService;
  readonly squeezed: SqueezedService;
  readonly xenstore: XenstoreService;
}

export type Verb = (xl: Toolstack, args: readonly string[]) => Promise<XlReply>;

export const EXIT_OK = 0;
export const EXIT_FAILURE = 1;
/** xl's own status for a wrong command line. */
export const EXIT_WRONG_ARGUMENTS = 2;

export const printed = (stdout: string): XlReply => ({ exitCode: EXIT_OK, stdout, stderr: '' });

const line = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);

export const refused = (stderr: string, exitCode = EXIT_FAILURE): XlReply => ({
  exitCode,
  stdout: '',
  stderr: line(stderr),
});

/** Something that ends a verb with a line on stderr, and sometimes more on stdout. */
export class XlFailure extends Error {
  override readonly name = 'XlFailure';
  readonly reply: XlReply;
  constructor(text: string, exitCode = EXIT_FAILURE, stdout = '') {
    super(text);
    this.reply = { exitCode, stdout, stderr: line(text) };
  }
}

/** For the verbs that are not xl's. */
export const wrongArguments = (usage: string): XlFailure => new XlFailure(`Usage: xl ${usage}`, EXIT_WRONG_ARGUMENTS);

/** All domains, dom0 first. */
export async function domainList({ dom0 }: Pick<Toolstack, 'dom0'>): Promise<readonly DomainInfo[]> {
  const { infos = [] } = await dom0.call({ op: 'getdomaininfolist', first: 0, max: 1024 });
  return infos;
}

/** A domain's number, as xl's find_domain: digits are taken as they are, whether there is such a domain or not. */
export async function findDomid(xl: Toolstack, text: string): Promise<number> {
  if (/^\d+$/.test(text)) return Number(text);
  const found = (await domainList(xl)).find(({ name }) => name === text);
  if (!found) throw new XlFailure(xlMessage.invalidDomain(text, ERROR_INVAL));
  return found.domid;
}

/** A domain that there is. */
export async function findDomain(xl: Toolstack, text: string): Promise<DomainInfo> {
  const domid = await findDomid(xl, text);
  const found = (await domainList(xl)).find((info) => info.domid === domid);
  if (!found) throw new XlFailure(xlMessage.noSuchDomain(text));
  return found;
}
