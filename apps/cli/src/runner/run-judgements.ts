// What only the run as a whole can judge: a fault means that an invariant was violated if the guest had every reason to use the
// page. Owns that judgement; the evidence is what the tables held right after each fault, and what they hold at the end.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { MemoryMapEntry } from '#model/hypercall/calls';
import type { JudgedByRun } from './invariant-names.ts';
import { xenP2mName } from './p2m-names.ts';
import type { FaultRecord } from './records.ts';
import { DOM0, type TwinState } from './twin-state.ts';

const PAGE = 4096;
const RAM = 1;
/** Faulted pages looked at again at the end. */
const LOOKS_MAX = 64;

const isRamIn = (map: readonly MemoryMapEntry[], gfn: number): boolean =>
  map.some(({ addr, size, type }) => type === RAM && gfn * PAGE >= addr && gfn * PAGE < addr + size);

/** Domains whose devices' faults are judged. */
interface Owner {
  readonly domid: number;
  readonly guest: string;
  readonly map: readonly MemoryMapEntry[] | null;
}

/** Asks the living host, so before it is stopped. */
export async function judgeFaults(state: TwinState): Promise<void> {
  const present = new Map<string, boolean>();
  let looks = 0;
  for (const fault of state.observer.faults) {
    const owner = ownerOf(state, fault);
    if (!owner) continue;
    const key = `${owner.domid}/${fault.dfn}`;
    if (!present.has(key) && looks < LOOKS_MAX && fault.cause?.p2mType !== 'populateOnDemand') {
      looks++;
      present.set(key, await isRamNow(state, owner, fault.dfn));
    }
    const invariant = judge(fault, owner, present.get(key) ?? fault.cause?.isRam ?? false);
    if (invariant) state.violation(invariant, faultSentence(fault, owner), 1, fault.cause?.why);
  }
  judgeLostWrites(state);
}

function ownerOf(state: TwinState, { cause }: FaultRecord): Owner | null {
  if (!cause || cause.domid < 0) return null;
  const guest = state.names.get(cause.domid) ?? DOM0;
  return { domid: cause.domid, guest, map: state.observer.guest(cause.domid)?.e820 ?? null };
}

/** A page that the guest ballooned out is its own affair; one that Xen owes it a frame for, or took away for a moment, is not. */
function judge({ dfn, cause }: FaultRecord, { map }: Owner, ramNow: boolean): JudgedByRun | null {
  if (!cause || (map !== null && !isRamIn(map, dfn))) return null;
  if (cause.p2mType === 'populateOnDemand') return 'dmaToGuestRamNeverFaults';
  return cause.isRam || ramNow ? 'neighboursStayMapped' : null;
}

async function isRamNow(state: TwinState, { domid }: Owner, gfn: number): Promise<boolean> {
  try {
    return (await state.peek(domid, gfn)).p2mType === 'ram_rw';
  } catch {
    return false; // the domain, or the host, is gone
  }
}

const faultSentence = ({ sbdf, dfn, write, reason, cause }: FaultRecord, { guest }: Owner): string =>
  `DMA ${write ? 'write' : 'read'} of ${formatSbdf(sbdf as Sbdf)} at ${(dfn * PAGE).toString(16)} in ${guest} faulted with reason ` + // a record carries the device's own number
  `${reason.toString(16).padStart(2, '0')}; the p2m has ${xenP2mName(cause?.p2mType ?? 'unknown')} there`;

function judgeLostWrites(state: TwinState): void {
  for (const { domid, noWriteLost } of state.observer.guests()) {
    if (noWriteLost === 0) continue;
    const guest = state.names.get(domid) ?? `d${domid}`;
    state.violation(
      'noWriteLost',
      `${noWriteLost} frames of ${guest} did not hold what was last written to them`,
      noWriteLost,
    );
  }
}
