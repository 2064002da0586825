// Who waits for whom, when nobody can go on: read from where each actor stands and from the locks' own record of their holders.
import { stepKind } from '#model/shared-memory/step';
import { actorStatus, actorWord } from './control.ts';
import type { Troupe } from './troupe.ts';

/** One sentence an actor that is not done. */
export function waitForGraph(troupe: Troupe): string {
  const { control, names } = troupe;
  const sentences: string[] = [];
  for (const [actor, name] of names.entries()) {
    const at = control.actor(actor);
    const status = control.words[at + actorWord.status];
    if (status === actorStatus.finished) sentences.push(`${name} is done`);
    else if (status === actorStatus.blocked) sentences.push(`${name} waits for ${waitedFor(troupe, actor)}`);
    else if (control.words[at + actorWord.kind] === stepKind.lock) {
      sentences.push(`${name} waits for ${holding(troupe, control.wheres[actor] as number)}`);
    }
  }
  return sentences.join('; ');
}

function waitedFor(troupe: Troupe, actor: number): string {
  const { control, host, paper } = troupe;
  const at = control.actor(actor);
  if (paper !== null) {
    const kind = control.words[at + actorWord.kind] as number;
    const what = control.wheres[actor] as number;
    return kind === stepKind.waitFor ? troupe.describe(kind, what).replace(/^waitFor /, '') : holding(troupe, what);
  }
  const buffers = Object.entries(host.shared.buffers);
  const [name, buffer] = buffers[control.words[at + actorWord.waitBuffer] as number] ?? [];
  const index = control.words[at + actorWord.waitIndex] as number;
  const { words } = host.lockTable;
  const lock = buffer === words.buffer ? host.lockTable.lockOfWord(words, index - (words.byteOffset >> 2)) : -1;
  if (lock >= 0) return holding(troupe, lock);
  const things: Readonly<Record<string, string>> = {
    iommu: 'a transaction to close, or an invalidation queue',
    tlbs: 'a vCPU to leave guest mode',
    domains: 'a domain to be at rest',
  };
  return things[name ?? ''] ?? `a word of '${name}'`;
}

function holding({ host, names, cpus, paper }: Troupe, lock: number): string {
  if (paper !== null) {
    const { locks } = paper.steps;
    const who = names.filter((_, actor) => locks.heldBy(actor).includes(locks.nameOf(lock)));
    return `${locks.nameOf(lock)}${who.length === 0 ? '' : ` held by ${who.join(' and ')}`}`;
  }
  const holders = host.lockTable.holders(lock);
  const who = holders.map((cpu) => names[cpus.indexOf(cpu)] ?? `cpu${cpu}`);
  const held = holders.map((cpu) => host.lockTable.describeHeld(cpu));
  return `${host.lockTable.nameOf(lock)}${who.length === 0 ? ', which nobody holds' : ` held by ${who.join(' and ')} ${held.join(' ')}`}`;
}
