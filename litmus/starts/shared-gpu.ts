// A GPU that a mediator in dom0 shares among guests, each with a slice of its global table. The mediator runs on the CPU of whoever
// makes it act.
import { GPU, type Machine } from '#explore/machine';
import { type Setup, UnexpectedAnswer, type World } from '#explore/world';
import { GLOBAL, GpuEngine } from '#model/gpu/gpu-engine';
import { VM_CELLS, vmCell } from '#model/gpu/gpu-memory';
import { GuestGpu } from '#model/gpu/guest-gpu';
import { Mediator } from '#model/gpu/mediator';
import type { Call, Hypercalls } from '#model/hypercall/calls';

/** The first page of each guest's RAM. */
export const PAGE = 512;
const SLICE = 4;

export const sharedGpu: Machine = {
  mediatedGpus: [{ sbdf: GPU, gmPages: 32, aperturePages: 16, apertureBase: 0xe000_0000, tables: 4 }],
  busFrames: 16,
};

function gpuOf(w: World) {
  const [gpu] = w.host.gpus.all;
  if (!gpu) throw new UnexpectedAnswer('the machine has no shared GPU: use sharedGpu');
  return gpu;
}

/** dom0's hypercalls. */
function portOf(w: World): Hypercalls {
  const call = (c: Call) => w.call(0, c as never); // one op, its answer
  return { call: call as Hypercalls['call'], multicall: (calls) => calls.map(call) };
}

const mediatorOf = (w: World): Mediator => new Mediator(w.host, portOf(w), gpuOf(w));

/** First page of the guest's slice. */
const firstPage = (w: World, domid: number): number =>
  gpuOf(w).vms[w.domain(domid).slot * VM_CELLS + vmCell.lowBase] as number;

/** A guest with RAM and a slice of the GPU, whose second page is in use already: the tables that this takes are there. */
export function gpuGuest(s: Setup): number {
  const domid = s.guest({ ram: [{ gfn: PAGE, pages: 2 }] });
  s.expect(mediatorOf(s).attach(domid, SLICE, SLICE), 0, 'a virtual GPU');
  writeEntry(s, domid, 1);
  return domid;
}

/** The guest's driver writes an entry of its slice, for that page of its RAM, and the mediator makes the shadow of it. */
export function writeEntry(w: World, domid: number, page = 0): void {
  const mediator = mediatorOf(w);
  const driver = new GuestGpu(w.host, w.domain(domid), gpuOf(w), () => mediator.serve());
  driver.writeGlobal(firstPage(w, domid) + page, PAGE + page);
}

/** A job of the guest writes to its first page. */
export function runJob(w: World, domid: number): void {
  const engine = new GpuEngine(w.host, gpuOf(w), w.host.cpu - w.host.config.pcpus);
  const access = { slot: w.domain(domid).slot, context: GLOBAL, page: firstPage(w, domid) };
  engine.access({ ...access, write: true, tag: 1 });
}
