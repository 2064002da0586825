// Steps on what caches hold: IOTLB, the units' copies of device entries, TLBs of vCPUs, and the queues by which they are emptied.
import { deviceEntryField, iotlbField, size, tlbField } from './memory.ts';
import { TableSteps } from './tables.ts';

export interface CachedTranslation {
  readonly did: number;
  readonly dfn: number;
  readonly frame: number;
  readonly rights: number;
  readonly absent: boolean;
}

export class CacheSteps extends TableSteps {
  /** TLB entries of a domain; of one gfn where given. Complete on return. */
  cpuFlush(domain: number, gfn?: number): void {
    this.step('cpuFlush', `d${domain}${gfn === undefined ? '' : ` gfn ${gfn}`}`, () => this.dropTlb(domain, gfn));
  }
  private dropTlb(domain: number, gfn?: number): void {
    for (let vcpu = 0; vcpu < size.vcpus; vcpu++)
      for (let i = 0; i < size.tlb; i++) {
        const at = this.memory.tlb(vcpu, i);
        if (this.memory.get(at + tlbField.domain) !== domain) continue;
        if (gfn === undefined || this.memory.get(at + tlbField.gfn) === gfn) this.memory.set(at + tlbField.valid, 0);
      }
  }
  /** Notes in a word that a CPU flush is owed. */
  cpuFlushDefer(word: string): void {
    this.step('cpuFlushDefer', word, () => this.put(word, 1));
  }

  /** Translations of a domain id; of one dfn where given. Complete on return. */
  iotlbFlush(did: number, dfn?: number): void {
    this.step('iotlbFlush', `id ${did}${dfn === undefined ? '' : ` dfn ${dfn}`}`, () => this.dropIotlb(did, dfn));
  }
  /** For use inside of `step`: what an engine does when it comes to a command. */
  dropIotlb(did: number, dfn?: number): void {
    for (let i = 0; i < size.iotlb; i++) {
      const at = this.memory.iotlb(i);
      if (this.memory.get(at + iotlbField.did) !== did) continue;
      if (dfn === undefined || this.memory.get(at + iotlbField.dfn) === dfn) this.memory.set(at + iotlbField.valid, 0);
    }
  }
  /** The units' copy of a device's entry. */
  devFlush(device: number): void {
    this.step('devFlush', `device ${device}`, () => {
      this.memory.set(this.memory.cachedDeviceEntry(device), 0);
    });
  }
  /** The engine carries out a command, or writes a status. */
  hwCommand(what: string, effect: () => void): void {
    this.step('hwCommand', what, effect);
  }
  /** One look at a completion word; a loop around it that gives up is the program's. */
  flushWait(word: string): boolean {
    return this.step('flushWait', word, () => this.look(word) !== 0) ?? false;
  }

  /** A CPU loads what the p2m says into its TLB. False: nothing is there. */
  tlbFill(vcpu: number, domain: number, gfn: number): boolean {
    return (
      this.step('tlbFill', `vCPU ${vcpu} of d${domain}, gfn ${gfn}`, () => {
        const seen = this.lookEntry(`p2m(${domain})`, gfn);
        if (!seen.present || !seen.hw) return false;
        this.putTlb(vcpu, domain, gfn, seen.frame, seen.rights);
        return true;
      }) ?? false
    );
  }
  /** For use inside of `step`. */
  putTlb(vcpu: number, domain: number, gfn: number, frame: number, rights: number): void {
    for (let i = 0; i < size.tlb; i++) {
      const at = this.memory.tlb(vcpu, i);
      if (this.memory.get(at + tlbField.valid) !== 0) continue;
      for (const [field, value] of [
        [tlbField.domain, domain],
        [tlbField.gfn, gfn],
        [tlbField.frame, frame],
        [tlbField.rights, rights],
        [tlbField.valid, 1],
      ] as const)
        this.memory.set(at + field, value);
      return;
    }
    throw new Error(`the TLB of vCPU ${vcpu} is full`);
  }
  lookTlb(vcpu: number, domain: number, gfn: number): { readonly frame: number; readonly rights: number } | null {
    for (let i = 0; i < size.tlb; i++) {
      const at = this.memory.tlb(vcpu, i);
      const get = (field: number): number => this.memory.get(at + field);
      if (get(tlbField.valid) !== 0 && get(tlbField.domain) === domain && get(tlbField.gfn) === gfn)
        return { frame: get(tlbField.frame), rights: get(tlbField.rights) };
    }
    return null;
  }

  /** Every TLB entry there is, as words. */
  lookAllTlb(): number[][] {
    const found: number[][] = [];
    for (let vcpu = 0; vcpu < size.vcpus; vcpu++)
      for (let i = 0; i < size.tlb; i++) {
        const at = this.memory.tlb(vcpu, i);
        if (this.memory.get(at + tlbField.valid) !== 0)
          found.push([vcpu, ...this.memory.words.subarray(at, at + tlbField.of)]);
      }
    return found;
  }
  /** Devices whose entry a unit has cached. */
  lookCachedDevices(): number[] {
    return Array.from({ length: size.devices }, (_, device) => device).filter(
      (device) => this.memory.get(this.memory.cachedDeviceEntry(device)) !== 0,
    );
  }

  lookIotlb(did: number, dfn: number): CachedTranslation | null {
    return this.lookAllIotlb().find((entry) => entry.did === did && entry.dfn === dfn) ?? null;
  }
  lookAllIotlb(): CachedTranslation[] {
    const found: CachedTranslation[] = [];
    for (let i = 0; i < size.iotlb; i++) {
      const at = this.memory.iotlb(i);
      const get = (field: number): number => this.memory.get(at + field);
      if (get(iotlbField.valid) === 0) continue;
      found.push({
        did: get(iotlbField.did),
        dfn: get(iotlbField.dfn),
        frame: get(iotlbField.frame),
        rights: get(iotlbField.rights),
        absent: get(iotlbField.absent) !== 0,
      });
    }
    return found;
  }
  /** For use inside of `step`. */
  putIotlb({ did, dfn, frame, rights, absent }: CachedTranslation): void {
    for (let i = 0; i < size.iotlb; i++) {
      const at = this.memory.iotlb(i);
      if (this.memory.get(at + iotlbField.valid) !== 0) continue;
      for (const [field, value] of [
        [iotlbField.did, did],
        [iotlbField.dfn, dfn],
        [iotlbField.frame, frame],
        [iotlbField.rights, rights],
        [iotlbField.absent, absent ? 1 : 0],
        [iotlbField.valid, 1],
      ] as const)
        this.memory.set(at + field, value);
      return;
    }
    throw new Error('the IOTLB is full');
  }

  /** A device's entry as the unit sees it: from its cache, else read and cached. Null: no tables. */
  protected cachedDeviceEntry(device: number): { domain: number; table: number; did: number } | null {
    const cached = this.memory.cachedDeviceEntry(device);
    if (this.memory.get(cached) === 0) {
      const seen = this.lookDeviceEntry(device);
      if (seen === null) return null;
      this.memory.set(cached + 1 + deviceEntryField.domain, seen.domain);
      this.memory.set(cached + 1 + deviceEntryField.table, seen.table);
      this.memory.set(cached + 1 + deviceEntryField.did, seen.did);
      this.memory.set(cached, 1);
    }
    const get = (field: number): number => this.memory.get(cached + 1 + field);
    return { domain: get(deviceEntryField.domain), table: get(deviceEntryField.table), did: get(deviceEntryField.did) };
  }
}
