// Step kinds by number: for whoever tells a person what happened.
import { stepKind } from '#model/shared-memory/step';
import { RESUMED } from './control.ts';

const names = new Map<number, string>(Object.entries(stepKind).map(([name, kind]) => [kind, name]));

export const stepName = (kind: number): string => (kind === RESUMED ? 'goes on' : (names.get(kind) ?? `step ${kind}`));
