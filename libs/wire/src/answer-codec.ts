// Turns answers into what travels and back. Most answers are one number and travel as that number; the tags of a `load` and
// dirty bitmaps travel packed. Answers come from the hypervisor, so decoding checks shape only to fail loudly on a version mismatch.

import type { Answer } from '#model/hypercall/calls';
import { packNumbers, unpackNumbers } from './checks.ts';

export type Answers = readonly Answer[];

export function encodeAnswer(answer: Answer): unknown {
  if ('tags' in answer && answer.tags) return { ...answer, tags: packNumbers(answer.tags) };
  if ('bitmap' in answer && answer.bitmap) return { ...answer, bitmap: packNumbers(answer.bitmap) };
  for (const key in answer) if (key !== 'rc') return answer;
  return answer.rc;
}

export function decodeAnswer(wire: unknown): Answer {
  if (typeof wire === 'number') return { rc: wire };
  if (typeof wire !== 'object' || wire === null || !('rc' in wire) || typeof wire.rc !== 'number') {
    throw new TypeError(`not an answer: ${JSON.stringify(wire)?.slice(0, 80)}`);
  }
  if ('tags' in wire) return { ...wire, rc: wire.rc, tags: unpacked(wire.tags, 'tags') };
  if ('bitmap' in wire) return { ...wire, rc: wire.rc, bitmap: unpacked(wire.bitmap, 'bitmap') };
  return wire as Answer; // the hypervisor's own object, of this version
}

function unpacked(wire: unknown, what: string): readonly number[] {
  const numbers = unpackNumbers(wire);
  if (!numbers) throw new TypeError(`the ${what} of an answer does not unpack`);
  return Array.from(numbers);
}
