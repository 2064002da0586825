import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bootGranting,
  endEntry,
  FIRST_REF,
  mapRef,
  RAM,
  storeTag,
  TABLE_GFN,
  tagsOf,
  unmapRef,
  writeEntry,
} from '../../test-support/grant-fixture.ts';
import { type GrantRaceWork, runGrantRace } from '../../test-support/grant-race.ts';
import { expectSound } from '../../test-support/hypercall-fixture.ts';
import { defaultPolicies } from '../host-config.ts';
import { errno } from '../hypercall/errno.ts';
import { gtf } from './shared-entry.ts';
import { gntmap, gntst } from './status.ts';

const COUNT = 24;
const AT = 0x4000;

async function race(cpuFlush: 'deferred-to-unlock' | 'lost', rounds: number, goals: GrantRaceWork['goals']) {
  const { bed, front, back } = bootGranting({ pcpus: 3, policies: { ...defaultPolicies, cpuFlush } });
  const found = await runGrantRace(
    {
      shared: bed.h.shared,
      front: front.domid,
      back: back.domid,
      table: TABLE_GFN,
      firstRef: FIRST_REF,
      count: COUNT,
      at: AT,
      rounds,
      goals,
    },
    ['granter', 'mapper', 'toucher'],
  );
  return { bed, found };
}

describe('grants on several CPUs', () => {
  it('a page whose entry could be withdrawn is its owner’s alone again: no write of the mapper arrives', async () => {
    const { bed, found } = await race('deferred-to-unlock', 3000, ['mapped']);
    expect(found).toMatchObject({ violations: 0, canaries: 0 });
    expect(found.granted).toBeGreaterThanOrEqual(3000);
    expect(found.mapped).toBeGreaterThan(0);
    expectSound(bed);
  });

  it('with the CPU flush lost the mapper’s other vCPU writes through its TLB (R1)', async () => {
    const { found } = await race('lost', 1500, ['canaries', 'violations']);
    expect(found.canaries + found.violations).toBeGreaterThan(0);
  });
});

describe('grants against an oracle', () => {
  type Act = {
    readonly act: 'grant' | 'map' | 'mapRo' | 'unmap' | 'end' | 'store';
    readonly ref: number;
    readonly page: number;
  };
  const act: fc.Arbitrary<Act> = fc.record({
    act: fc.constantFrom('grant', 'map', 'map', 'mapRo', 'unmap', 'unmap', 'end', 'store'),
    ref: fc.integer({ min: 0, max: 5 }),
    page: fc.integer({ min: 0, max: 7 }),
  });

  it('entries, mappings and marks are what a plain list of them says', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const { bed, front, back } = bootGranting({ frames: 16_384 });
        const entries = new Map<number, number>();
        /** By gfn of the mapper. */
        const mapped = new Map<number, { ref: number; page: number; handle: number; readonly: boolean }>();
        const contents = Array.from({ length: RAM }, (_, i) => i + 1);
        const users = (ref: number) => [...mapped.values()].filter((m) => m.ref === ref);
        let tag = 5000;
        for (const { act: what, ref, page } of acts) {
          const gfn = AT + page;
          if (what === 'grant') {
            if (entries.has(ref) || users(ref).length > 0) continue;
            writeEntry(bed, front, { ref: FIRST_REF + ref, to: back, gfn: page });
            entries.set(ref, page);
          } else if (what === 'map' || what === 'mapRo') {
            if (mapped.has(gfn)) continue;
            const readonly = what === 'mapRo';
            const flags = gntmap.host | (readonly ? gntmap.readonly : 0);
            const { status, handle } = mapRef(bed, back, front, FIRST_REF + ref, gfn, flags);
            const granted = entries.get(ref);
            expect(status).toBe(granted === undefined ? gntst.generalError : gntst.okay);
            if (granted !== undefined) mapped.set(gfn, { ref, page: granted, handle, readonly });
          } else if (what === 'unmap') {
            const found = mapped.get(gfn);
            expect(unmapRef(bed, back, found?.handle ?? 200, gfn)).toBe(found ? gntst.okay : gntst.badHandle);
            mapped.delete(gfn);
          } else if (what === 'end') {
            const busy = users(ref).length > 0;
            expect(endEntry(bed, front, FIRST_REF + ref)).toBe(busy ? -errno.EBUSY : 0);
            if (!busy) entries.delete(ref);
          } else {
            const found = mapped.get(gfn);
            storeTag(bed, back, gfn, ++tag);
            if (found && !found.readonly) contents[found.page] = tag;
          }
        }
        expect(tagsOf(bed, front, 0, RAM)).toEqual(contents);
        for (const [gfn, { page }] of mapped) expect(tagsOf(bed, back, gfn)).toEqual([contents[page]]);
        for (const ref of entries.keys()) {
          const flags = bed.h.grants.of(front).shared[(FIRST_REF + ref) * 2] ?? 0;
          const writers = users(ref).some((m) => !m.readonly);
          const due = (users(ref).length > 0 ? gtf.reading : 0) | (writers ? gtf.writing : 0);
          expect(flags & (gtf.reading | gtf.writing)).toBe(due);
        }
        expectSound(bed);
      }),
      { numRuns: 60 },
    );
  });
});
