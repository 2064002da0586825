// One program under several settings that a guest should not be able to tell apart: tables separate from the EPT or shared with it,
// I/O superpages on or off. What each actor was answered is compared, operation by operation.
import type { ModelPolicies } from '#model/host-config';
import type { Troupe } from './troupe.ts';

export interface DifferentialReport {
  readonly variant: string;
  readonly settings: readonly string[];
  /** One line for each answer that is not the same everywhere. */
  readonly differs: readonly string[];
}

interface Setting {
  readonly name: string;
  readonly policies: Partial<ModelPolicies>;
}

const settings: readonly Setting[] = [
  { name: 'separate tables', policies: { iommuTables: 'separate' } },
  { name: 'shared tables', policies: { iommuTables: 'shared' } },
  { name: 'separate tables of 4K', policies: { iommuTables: 'separate', iommuSuperpages: 'off' } },
];

/** The schedule without preemptions, under each setting. */
export function compareSettings(troupe: Troupe, variant: string): DifferentialReport {
  const answers = settings.map(({ policies }) => answersUnder(troupe, variant, policies));
  const differs: string[] = [];
  const longest = Math.max(...answers.map((list) => list.length));
  for (let i = 0; i < longest; i++) {
    const texts = answers.map((list) => list[i] ?? 'nothing');
    if (texts.every((text) => text === texts[0])) continue;
    differs.push(settings.map(({ name }, s) => `${name}: ${texts[s]}`).join(' | '));
  }
  return { variant, settings: settings.map(({ name }) => name), differs };
}

function answersUnder(troupe: Troupe, variant: string, policies: Partial<ModelPolicies>): string[] {
  troupe.attach(variant, { kind: 'replay' }, { policies });
  const played = troupe.play({ answers: true });
  const broken = played.said.flatMap((s) => (s.is === 'violation' ? [`${s.invariant} is broken`] : []));
  const answers = played.said.flatMap((s) => (s.is === 'answer' ? [`${troupe.names[s.actor] ?? '?'}: ${s.text}`] : []));
  return [...answers, ...broken];
}
