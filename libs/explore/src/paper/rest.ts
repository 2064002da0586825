// What must hold of a paper host when all actors have ended: the model's state invariants, as far as a paper host has what they are
// about, and the program's own.

import { NOBODY, whose } from './frames.ts';
import { frameField, size } from './memory.ts';
import type { PaperSpec } from './spec.ts';
import type { Steps } from './steps.ts';

export interface PaperViolation {
  readonly invariant: string;
  readonly text: string;
}

export function paperAtRest(p: Steps, spec: PaperSpec): PaperViolation[] {
  const found: PaperViolation[] = [];
  const add = (invariant: string, text: string): void => {
    found.push({ invariant, text });
  };
  for (const name of p.locks.held()) add('noLockHeldAtSafepoint', `${name} is still held`);
  for (let d = 0; d < size.domains; d++) {
    tables(p, `p2m(${d})`, d, 'noP2mLeafToFreeFrame', add);
    tables(p, `io(${d})`, d, 'noIommuLeafToFreeFrame', add);
  }
  caches(p, add);
  m2p(p, add);
  for (const [name, holds] of Object.entries(spec.atRest)) {
    const told = holds(p);
    if (told !== true) add(name, told);
  }
  return found;
}

type Add = (invariant: string, text: string) => void;

function tables(p: Steps, table: string, domain: number, invariant: string, add: Add): void {
  for (let i = 0; i < size.entries; i++) {
    const seen = p.lookEntry(table, i);
    if (!seen.present || seen.frame < 0) continue;
    const owner = p.lookOwner(seen.frame);
    if (owner === NOBODY) add(invariant, `${table}[${i}] names frame ${seen.frame}, which nobody owns`);
    else if (!p.lookReachable(seen.frame, domain) && owner >= 0)
      add('noFrameWritableByTwoGuests', `${table}[${i}] names frame ${seen.frame} of ${whose(owner)}`);
    if (p.memory.get(p.memory.frame(seen.frame) + frameField.cacheOf) !== 0)
      add('cacheFramesAreMappedNowhere', `${table}[${i}] names frame ${seen.frame}, which is in a PoD cache`);
  }
}

function caches(p: Steps, add: Add): void {
  for (const { did, dfn, frame, absent } of p.lookAllIotlb()) {
    if (!absent && p.lookOwner(frame) === NOBODY)
      add('noIotlbEntryToFreeFrame', `the IOTLB has dfn ${dfn} of id ${did} as frame ${frame}, which nobody owns`);
  }
  for (let vcpu = 0; vcpu < size.vcpus; vcpu++)
    for (let d = 0; d < size.domains; d++)
      for (let g = 0; g < size.entries; g++) {
        const cached = p.lookTlb(vcpu, d, g);
        if (cached !== null && p.lookOwner(cached.frame) === NOBODY)
          add(
            'noTlbEntryToFreeFrame',
            `vCPU ${vcpu} has gfn ${g} of d${d} as frame ${cached.frame}, which nobody owns`,
          );
      }
  for (let device = 0; device < size.devices; device++) {
    const entry = p.lookDeviceEntry(device);
    const name = entry === null ? undefined : p.memory.tableNames[entry.table];
    if (name !== undefined && !p.lookLive(name))
      add('noContextPointsToFreedTable', `device ${device} has ${name}, which has left its tree`);
  }
}

/** Only of frames that M2P says something of. */
function m2p(p: Steps, add: Add): void {
  for (let f = 0; f < size.frames; f++) {
    const gfn = p.lookM2p(f);
    const owner = p.lookOwner(f);
    if (gfn < 0 || owner < 0) continue;
    const seen = p.lookEntry(`p2m(${owner})`, gfn);
    if (!seen.present || seen.frame !== f)
      add(
        'm2pIsInverseOfP2m',
        `M2P says gfn ${gfn} of frame ${f}, where d${owner} has ${seen.present ? `frame ${seen.frame}` : 'nothing'}`,
      );
  }
}
