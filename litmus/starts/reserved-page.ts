// Guests, and a NIC with a reserved page (reserved-memory.ts) at a gfn where they may have RAM.
import type { Actor } from '#explore/litmus';
import { NIC } from '#explore/machine';
import type { World } from '#explore/world';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { RESERVED } from './reserved-memory.ts';

/** RAM at the reserved page of a guest. */
export const populateReserved = (w: World, by: number, domid: number): void =>
  void w.call(by, {
    op: 'populate_physmap',
    domid,
    order: 0,
    memFlags: 0,
    extents: { start: RESERVED, count: 1 },
  });

/** Builds a guest's memory, then gives it the NIC. `hole`: a gfn that is no RAM in its memory map. */
export const buildAndAssign = (hole: number): Actor<{ readonly guest: number }> => ({
  kind: 'software',
  does(w, { guest }) {
    if (hole !== RESERVED) populateReserved(w, 0, guest);
    w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 });
  },
});

/** The NIC writes to that page, if it is the guest's. True: it reached a frame. */
const writeReserved = (w: World, domid: number): boolean => w.ownerOf(NIC) === domid && w.dma(NIC, RESERVED, 'w') === 0;

/** Device and CPUs find the same frame. */
export function writeAndCompare(w: World, domid: number): void {
  if (!writeReserved(w, domid)) return;
  const m = peekEntry(w.host, w.domain(domid), RESERVED, new Leaf());
  const text = `the NIC reaches mfn ${w.frame.toString(16)} at dfn ${RESERVED.toString(16)}, where the CPUs of d${domid} find mfn ${m.toString(16)}`;
  w.require(m === w.frame, 'cpuAndDeviceAgreeOnGfn', text, { domid, mfn: m, frame: w.frame });
}

/** What the device writes to its reserved page arrives where firmware keeps its data. */
export function writeAndLookAtFirmware(w: World, domid: number): void {
  if (!writeReserved(w, domid)) return;
  const text = `the NIC writes to its reserved page in d${domid}, and reaches mfn ${w.frame.toString(16)}`;
  w.require(w.frame === RESERVED, 'reservedDmaReachesTheFirmwareFrame', text, { domid, frame: w.frame });
}
