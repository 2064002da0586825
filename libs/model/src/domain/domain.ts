// One domain as one thread sees it: its shared record, its locks and its lists. Views are made once per thread and slot.
import type { Domid } from '../frames/addresses.ts';
import { FrameList } from '../frames/frame-list.ts';
import type { FrameTable } from '../frames/frame-table.ts';
import type { Mutex } from '../shared-memory/mutex.ts';
import type { RwLock } from '../shared-memory/rwlock.ts';
import { domainFeature, domainRecord, domainState } from './domain-record.ts';

export interface DomainLocks {
  readonly p2m: RwLock;
  readonly pod: Mutex;
  readonly pageAlloc: Mutex;
  readonly paging: Mutex;
  readonly pci: Mutex;
  readonly grantTable: RwLock;
  readonly grantActive: Mutex;
  readonly grantMaptrack: Mutex;
  readonly iommuMapping: Mutex;
}

type DomainFields = typeof domainRecord extends { view(b: SharedArrayBuffer, i: number, n: number): infer V }
  ? V
  : never;

export class Domain {
  readonly slot: number;
  readonly r: DomainFields;
  readonly locks: DomainLocks;
  readonly podSuper: FrameList;
  readonly podSingle: FrameList;
  /** Free frames of the paging pool. */
  readonly pool: FrameList;

  constructor(slot: number, buffer: SharedArrayBuffer, count: number, frames: FrameTable, locks: DomainLocks) {
    this.slot = slot;
    this.r = domainRecord.view(buffer, slot, count);
    this.locks = locks;
    this.podSuper = new FrameList(frames, this.r.podSuper);
    this.podSingle = new FrameList(frames, this.r.podSingle);
    this.pool = new FrameList(frames, this.r.pool);
  }

  get domid(): Domid {
    return this.r.domid as Domid;
  }
  get exists(): boolean {
    return Atomics.load(this.r.words, domainRecord.at.state) !== domainState.free;
  }
  get dying(): boolean {
    return Atomics.load(this.r.words, domainRecord.at.isDying) !== 0;
  }
  get crashed(): boolean {
    return Atomics.load(this.r.words, domainRecord.at.shutdown) !== 0;
  }
  has(feature: keyof typeof domainFeature): boolean {
    return (this.r.features & domainFeature[feature]) !== 0;
  }
  /** dom0: all hardware not given away. */
  get isHardware(): boolean {
    return this.has('hardware');
  }
  get isTranslated(): boolean {
    return this.has('hvm');
  }
  get name(): string {
    let text = '';
    for (let i = 0; i < this.r.nameLength; i++) text += String.fromCharCode(this.r.name[i] as number);
    return text;
  }
}
