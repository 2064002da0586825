// xl uptime [-s] [DOMAIN]: since when each domain runs. dom0's is the toolstack's machine's, as xl reads it.
import { uptime as machineUptime } from 'node:os';
import { formatXlUptime } from '#formats/xl-output';
import type { DomainInfo } from '#model/hypercall/calls';
import { readArguments } from './arguments.ts';
import { domainList, findDomain, printed, type Toolstack, type Verb } from './verb.ts';

const DOM0 = 0;

function rowOf(xl: Toolstack, { domid, name }: DomainInfo, now: number) {
  const startedAt = xl.domains.get(domid)?.startedAt;
  if (domid === DOM0) return [{ domid, name, seconds: Math.floor(machineUptime()) }];
  return startedAt === undefined ? [] : [{ domid, name, seconds: now - startedAt }];
}

export const uptime: Verb = async (xl, args) => {
  const { words, has } = readArguments('uptime', args, 0, { s: 'short' });
  const infos =
    words.length === 0 ? await domainList(xl) : await Promise.all(words.map((name) => findDomain(xl, name)));
  const now = Math.floor(Date.now() / 1000);
  const rows = infos.flatMap((info) => rowOf(xl, info, now));
  return printed(formatXlUptime(rows, has('s') ? new Date().toTimeString().slice(0, 8) : null));
};
