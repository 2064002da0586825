import { describe, expect, it } from 'vitest';
import type { Call } from '#model/hypercall/calls';
import { packItems, unpackItems, type WorkItem } from './work.ts';

const item = (calls: readonly Call[]): WorkItem => ({ id: 1, domid: 2, incarnation: 3, vcpu: 0, calls, state: null });

describe('work on its way to a pCPU', () => {
  it('travels as text, and arrives as it was', () => {
    const items = [item([{ op: 'touch', frames: { start: 5, count: 2 } }, { op: 'physinfo' }])];
    const message = packItems(items);
    expect(message).toHaveProperty('text');
    expect(unpackItems(message)).toEqual(items);
  });

  it.each<[string, Call]>([
    ['a call', { op: 'touch', frames: { frames: Uint32Array.of(1, 2) } }],
    [
      'a batch',
      {
        op: 'add_to_physmap_batch',
        domid: 0,
        space: 4,
        foreignDomid: 1,
        idxs: { start: 0, count: 1 },
        gpfns: { frames: Uint32Array.of(7) },
      },
    ],
    [
      'a device command',
      {
        op: 'device_submit',
        sbdf: 16,
        commands: [{ kind: 'read', frames: { frames: Uint32Array.of(1) }, tag: 0, repeat: 1 }],
      },
    ],
  ])('keeps a binary list of frames in %s binary', (_where, call) => {
    const items = [item([call])];
    expect(unpackItems(packItems(items))).toBe(items);
  });
});
