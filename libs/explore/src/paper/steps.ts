// What lies outside of Xen: devices, walkers, guests, and Xen's own use of a frame it has translated to. These are the steps at which
// harm is done, so they judge.
import { CacheSteps } from './caches.ts';
import { mayWrite, NOBODY, whose } from './frames.ts';
import { deviceField } from './memory.ts';
import type { SeenEntry } from './tables.ts';

export interface DmaOptions {
  /** A fault is a violation of that invariant. */
  readonly fault?: string;
  /** What a write leaves; absent: 1. */
  readonly tag?: number;
}

/** The vocabulary of step programs: every method is one atomic step, but for those named look… and put…. */
export class Steps extends CacheSteps {
  /**
   * A device reads or writes a page: device entry, IOTLB, tables, fill. The frame it was in, or -1: a fault. What it reached must be
   * its domain's at that moment.
   */
  dma(device: number, dfn: number, kind: 'r' | 'w', options: DmaOptions = {}): number {
    const name = `device ${device} ${kind === 'w' ? 'writes' : 'reads'} dfn ${dfn}`;
    return (
      this.step('dma', name, () => {
        const frame = this.translated(device, dfn, kind === 'w');
        if (frame < 0) {
          if (options.fault !== undefined)
            this.require(false, options.fault, `${name}: a fault, nothing lets it through`);
          return -1;
        }
        const domain = this.lookDeviceOwner(device);
        this.reached(frame, domain, name, kind, options.tag ?? 1);
        return frame;
      }) ?? -1
    );
  }

  private translated(device: number, dfn: number, write: boolean): number {
    const entry = this.cachedDeviceEntry(device);
    if (entry === null) return -1;
    const key = this.spec.iotlbByDevice ? device : entry.did;
    const cached = this.lookIotlb(key, dfn);
    if (cached !== null) return cached.absent || (write && !mayWrite(cached.rights)) ? -1 : cached.frame;
    const seen = this.walked(entry.table, dfn);
    const absent = seen === null;
    if (!absent || this.spec.cachesAbsent) {
      this.putIotlb({ did: key, dfn, frame: seen?.frame ?? 0, rights: seen?.rights ?? 0, absent });
    }
    return seen === null || (write && !mayWrite(seen.rights)) ? -1 : seen.frame;
  }

  /** What a walker finds in a table, through directory entries; null: nothing. */
  private walked(table: number, index: number): SeenEntry | null {
    for (let at = table, depth = 0; depth < 4; depth++) {
      const name = this.memory.tableNames[at] ?? '?';
      this.require(
        this.memory.get(this.memory.tableLive(at)) !== 0,
        'noWalkThroughFreedTable',
        `a walk reads ${name}, which has left its tree`,
      );
      const seen = this.entryAt(at, index, 'memory');
      if (!seen.present || !seen.hw) return null;
      const whole = this.memory.knownWhole(at, index, this.wholeOf(at, index, 'memory'));
      this.require(
        whole,
        'walkerSeesOldOrNewEntryOnly',
        `a walk reads ${name}[${index}] as it was never stored: frame ${seen.frame}, rights ${seen.rights}`,
      );
      if (seen.table < 0) return seen;
      at = seen.table;
    }
    return null;
  }

  private reached(frame: number, domain: number, name: string, kind: 'r' | 'w', tag: number): void {
    const owner = this.lookOwner(frame);
    this.require(owner !== NOBODY, 'noDmaToFreedFrame', `${name}: it lands in frame ${frame}, which nobody owns`);
    const text = `${name} for d${domain}: it lands in frame ${frame} of ${whose(owner)}`;
    this.require(this.lookReachable(frame, domain), 'dmaHitsOnlyFramesOfItsDomain', text);
    if (kind === 'w') this.putTag(frame, tag);
  }

  /** Whose device it is: as attached, else as its entry says. */
  private lookDeviceOwner(device: number): number {
    const owner = this.memory.get(this.memory.device(device) + deviceField.owner) - 1;
    return owner >= 0 ? owner : (this.cachedDeviceEntry(device)?.domain ?? NOBODY);
  }

  /** A walker (of a CPU or a unit) reads one entry of a table. Null: nothing is there. */
  hwWalk(table: string, index: number): SeenEntry | null {
    return this.step('hwWalk', `${table}[${index}]`, () => this.walked(this.memory.table(table), index)) ?? null;
  }

  /** A guest's CPU, its TLB first. The frame it was in, or -1: a fault. */
  guestAccess(vcpu: number, domain: number, gfn: number, kind: 'r' | 'w', tag = 1): number {
    const name = `vCPU ${vcpu} of d${domain} ${kind === 'w' ? 'writes' : 'reads'} gfn ${gfn}`;
    return (
      this.step('guestAccess', name, () => {
        const cached = this.lookTlb(vcpu, domain, gfn);
        const seen = cached ?? this.walked(this.memory.table(`p2m(${domain})`), gfn);
        if (seen === null || (kind === 'w' && !mayWrite(seen.rights))) return -1;
        if (cached === null) this.putTlb(vcpu, domain, gfn, seen.frame, seen.rights);
        const owner = this.lookOwner(seen.frame);
        const invariant = owner === NOBODY ? 'noCpuAccessToFreedFrame' : 'noCpuAccessToForeignFrame';
        this.require(
          this.lookReachable(seen.frame, domain),
          invariant,
          `${name}: it lands in frame ${seen.frame} of ${whose(owner)}`,
        );
        if (kind === 'w') this.putTag(seen.frame, tag);
        return seen.frame;
      }) ?? -1
    );
  }

  /** Xen reads or writes guest memory by a frame's number: it must still be that domain's. */
  xenAccess(frame: number, domain: number): void {
    this.step('xenAccess', `frame ${frame} for d${domain}`, () => {
      const owner = this.lookOwner(frame);
      this.require(
        this.lookReachable(frame, domain),
        'xenAccessHoldsAReference',
        `Xen is in frame ${frame} for d${domain}, but it belongs to ${whose(owner)} now`,
      );
    });
  }

  /** A guest or a mediator arms a device with a number. */
  program(device: number, value: number): void {
    this.step('program', `device ${device} with ${value}`, () => {
      this.memory.set(this.memory.device(device) + deviceField.program, value + 1);
    });
  }
  /** What a device is armed with; -1: nothing. */
  lookProgram(device: number): number {
    return this.memory.get(this.memory.device(device) + deviceField.program) - 1;
  }
  /** The device forgets what it was armed with. */
  devReset(device: number): void {
    this.step('devReset', `device ${device}`, () => {
      this.memory.set(this.memory.device(device) + deviceField.program, 0);
    });
  }
  deviceAttach(device: number, domain: number): void {
    this.step('deviceAttach', `device ${device} to d${domain}`, () => {
      this.memory.set(this.memory.device(device) + deviceField.owner, domain + 1);
    });
  }
  notifier(what: 'start' | 'end', subject = ''): void {
    this.step('notifier', `${what} ${subject}`.trimEnd(), () => {});
  }
}
