// What an xl verb is here: a function of the toolstack and its arguments that gives what xl would print and its exit status.
// Shared by all verbs: how a domain is named, and how a refusal is said.

import { xlMessage } from '#formats/xl-output';
import type { DomainInfo } from '#model/hypercall/calls';
import type { XlReply } from '#wire/messages';
import type { ToolstackConfig } from '../config.ts';
import type { Dom0Service } from '../dom0.service.ts';
import type { DomainsService } from '../domains.service.ts';
import type { PlacementService } from '../placement.service.ts';
import type { XenstoreService } from '../xenstore.service.ts';

export interface Toolstack {
  readonly config: ToolstackConfig;
  readonly dom0: Dom0Service;
  readonly domains: DomainsService;
  readonly placement: PlacementService;
  readonly xenstore: XenstoreService;
}

export type Verb = (xl: Toolstack, args: readonly string[]) => Promise<XlReply>;

export const EXIT_OK = 0;
export const EXIT_FAILURE = 1;
/** xl's own status for a wrong command line. */
export const EXIT_WRONG_ARGUMENTS = 2;

const ERROR_INVAL = -6;

export const printed = (stdout: string): XlReply => ({ exitCode: EXIT_OK, stdout, stderr: '' });

export const refused = (stderr: string, exitCode = EXIT_FAILURE): XlReply => ({
  exitCode,
  stdout: '',
  stderr: stderr.endsWith('\n') ? stderr : `${stderr}\n`,
});

/** Something that ends a verb with a line on stderr. */
export class XlFailure extends Error {
  override readonly name = 'XlFailure';
  readonly exitCode: number;
  constructor(text: string, exitCode = EXIT_FAILURE) {
    super(text);
    this.exitCode = exitCode;
  }
}

export const wrongArguments = (usage: string): XlFailure => new XlFailure(`Usage: xl ${usage}`, EXIT_WRONG_ARGUMENTS);

/** All domains, dom0 first. */
export async function domainList({ dom0 }: Pick<Toolstack, 'dom0'>): Promise<readonly DomainInfo[]> {
  const { infos = [] } = await dom0.call({ op: 'getdomaininfolist', first: 0, max: 1024 });
  return infos;
}

/** A domain by its name or number, as xl's find_domain. */
export async function findDomain(xl: Toolstack, text: string | undefined, usage: string): Promise<DomainInfo> {
  if (text === undefined) throw wrongArguments(usage);
  const infos = await domainList(xl);
  const isNumber = /^\d+$/.test(text);
  const found = infos.find((info) => (isNumber ? info.domid === Number(text) : info.name === text));
  if (!found) throw new XlFailure(xlMessage.invalidDomain(text, ERROR_INVAL));
  return found;
}
