// A host's memory as it was when the actors were about to begin, and the way back to it. What a schedule can have touched is
// copied whole; the arena of table pages only as far as it was ever used; a buffer of megabytes that no schedule touches is
// looked at now and then, and copied once one does.
import type { Host, HostShared } from '#model/host';

const BIG = 1 << 20;
/** Schedules between two looks at the big buffers; in the first ones every time. */
const LOOK_EVERY = 512;
const FIRST_LOOKS = 4;

interface Part {
  readonly live: Uint8Array<SharedArrayBuffer>;
  readonly saved: Uint8Array;
}

export class HostMemory {
  private readonly host: Host;
  private readonly parts: Part[] = [];
  private readonly big: (Part & { readonly name: string })[] = [];
  private readonly tables: Part;
  private readonly slotBytes: number;
  private tableBytes = 0;
  private restored = 0;

  /** Takes the picture. */
  constructor(host: Host) {
    this.host = host;
    const { tables, ...others } = host.shared.buffers;
    for (const [name, buffer] of Object.entries(others)) {
      const part = this.save(buffer);
      if (buffer.byteLength < BIG) this.parts.push(part);
      else this.big.push({ ...part, name });
    }
    this.tables = this.save(tables);
    this.slotBytes = host.tables.slots.byteLength;
    this.tableBytes = host.tables.slotsEverUsed * 8;
  }

  private save(buffer: SharedArrayBuffer): Part {
    const live = new Uint8Array(buffer);
    return { live, saved: live.slice() };
  }

  restore(): void {
    for (const { live, saved } of this.parts) live.set(saved);
    this.tableBytes = Math.max(this.tableBytes, this.host.tables.slotsEverUsed * 8);
    const { live, saved } = this.tables;
    live.set(saved.subarray(0, this.tableBytes));
    live.set(saved.subarray(this.slotBytes), this.slotBytes);
    if (this.restored++ < FIRST_LOOKS || this.restored % LOOK_EVERY === 0) this.checkBig();
  }

  /** A big buffer that changed is copied from now on. Throws when schedules may have run on what others left in it. */
  checkBig(): void {
    const changed = this.big.filter(({ live, saved }) => Buffer.compare(live, saved) !== 0);
    for (const part of changed) {
      if (this.restored > FIRST_LOOKS) {
        throw new Error(`schedules changed '${part.name}', which was not set back between them`);
      }
      this.parts.push(part);
      this.big.splice(this.big.indexOf(part), 1);
      part.live.set(part.saved);
    }
  }

  /** The saved picture as the memory of a host of its own, for comparing. */
  static copy(shared: HostShared): HostShared {
    const buffers = Object.fromEntries(
      Object.entries(shared.buffers).map(([name, buffer]) => [name, new SharedArrayBuffer(buffer.byteLength)]),
    );
    return { ...shared, buffers: buffers as HostShared['buffers'] }; // the same names
  }
}
