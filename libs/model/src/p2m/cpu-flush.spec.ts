import { describe, expect, it } from 'vitest';
import { bareDomain, bootSmall } from '../../test-support/p2m-fixture.ts';
import { type PcpuWork, pcpuWord, startPcpu, tell, until } from '../../test-support/pcpu-fixture.ts';
import { allocDomheap } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import { defaultPolicies } from '../host-config.ts';
import { accessResult } from './guest-access.ts';
import { guestPhysmapAddPage } from './physmap.ts';

const GFN = 5;
const TAG = 0x77;

/** A guest with one page; pCPU 0 is about to store to it through its TLB, pCPU 1 takes it away. */
async function race(cpuFlush: 'deferred-to-unlock' | 'lost') {
  const { h } = bootSmall({ pcpus: 2, policies: { ...defaultPolicies, cpuFlush } });
  const d = bareDomain(h, 1);
  const m = allocDomheap(h, d, 0) as Mfn;
  guestPhysmapAddPage(h, d, GFN, m, 0);
  const control = new SharedArrayBuffer(32);
  const words = new Int32Array(control);
  const shared: Omit<PcpuWork, 'cpu' | 'job'> = { shared: h.shared, domid: d.domid, gfn: GFN, tag: TAG, control };
  const guest = startPcpu({ ...shared, cpu: 0, job: 'access' });
  await until(words, 'stalled', 0, guest);
  const free = h.heap.freePages;
  const remover = startPcpu({ ...shared, cpu: 1, job: 'remove' });
  // It has come as far as it can while the vCPU stands in guest mode: it waits, or it is through.
  await until(words, 'remover', 0, guest, remover);
  const whileStalled = { owner: h.frames.ownerOf(m), freed: h.heap.freePages - free };
  tell(words, 'stalled', 2);
  await Promise.all([guest.ended, remover.ended]);
  const word = (name: keyof typeof pcpuWord): number => Atomics.load(words, pcpuWord[name]);
  return {
    whileStalled,
    droppedEarly: word('droppedEarly'),
    result: word('result'),
    violations: word('violations'),
    after: { owner: h.frames.ownerOf(m), freed: h.heap.freePages - free, tag: h.frames.tag[m] },
  };
}

describe('a frame that a stalled vCPU still has in its TLB', () => {
  it('does not reach the heap before that CPU was flushed: the late store lands in its own frame, and is scrubbed', async () => {
    for (let round = 0; round < 5; round++) {
      const found = await race('deferred-to-unlock');
      expect(found.whileStalled).toEqual({ owner: 1, freed: 0 });
      expect([found.droppedEarly, found.violations, found.result]).toEqual([0, 0, accessResult.ok]);
      expect(found.after).toEqual({ owner: -1, freed: 1, tag: 0 });
    }
  });

  it('with the flush lost is free while the vCPU stands there, and the late store reaches a stranger’s frame', async () => {
    const found = await race('lost');
    expect(found.whileStalled).toEqual({ owner: -1, freed: 1 });
    expect([found.droppedEarly > 0, found.violations]).toEqual([true, 1]);
    expect(found.after.tag).toBe(TAG);
  });
});
