// Step kinds by their numbers.
import { type StepKindName, stepKind } from '#model/shared-memory/step';
import { RESUMED } from './control.ts';
import { paperKindName } from './paper/kinds.ts';

const names = new Map<number, StepKindName>(
  Object.entries(stepKind).map(([name, kind]) => [kind, name as StepKindName]), // the table's own keys
);

export const stepKindName = (kind: number): StepKindName | undefined => names.get(kind);

export const isLockStep = (kind: number): boolean =>
  kind === stepKind.lock || kind === stepKind.tryLock || kind === stepKind.unlock;

export const describeKind = (kind: number): string =>
  kind === RESUMED ? 'goes on' : (names.get(kind) ?? paperKindName(kind) ?? `step ${kind}`);
