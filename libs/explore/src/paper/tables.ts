// Steps on tables: the p2m and the I/O tables of each domain, tables that a program names, M2P, and the entries that tell a unit
// which tables a device has. An entry stored as a whole is remembered as one; a store of single fields is not.
import { FrameSteps, type Rights, rightsNumber } from './frames.ts';
import { deviceEntryField, entryField, size } from './memory.ts';

export interface Entry {
  readonly frame?: number;
  readonly rights?: Rights;
  readonly type?: string;
  /** Valid for hardware; a cleared one may still be known to Xen. Absent: yes. */
  readonly hw?: boolean;
  /** A directory entry: the walk goes on in that table, at the same index. */
  readonly table?: string;
}

/** As `look` answers: nothing is -1 or ''. */
export interface SeenEntry {
  readonly present: boolean;
  readonly frame: number;
  readonly rights: number;
  readonly type: string;
  readonly hw: boolean;
  readonly table: number;
}

export interface DeviceEntry {
  readonly domain: number;
  /** Absent: the domain's I/O tables. */
  readonly table?: string;
  /** Absent: the domain's number. */
  readonly did?: number;
}

export type Copy = 'cpu' | 'memory';

const describe = (entry: Entry | null): string =>
  entry === null
    ? 'empty'
    : entry.table !== undefined
      ? `table ${entry.table}`
      : [`frame ${entry.frame}`, entry.rights ?? 'rw', entry.type ?? ''].join(' ').trimEnd();

export class TableSteps extends FrameSteps {
  private coherent(table: string): boolean {
    return !this.spec.nonCoherent.includes(table);
  }

  /** Of an entry's words, both copies where the table is coherent. */
  private putField(table: string, index: number, field: number, value: number): void {
    const id = this.memory.table(table);
    this.memory.set(this.memory.entry(id, index) + field, value);
    if (this.coherent(table)) this.memory.set(this.memory.memoryEntry(id, index) + field, value);
  }

  private fields(entry: Entry | null): readonly (readonly [number, number])[] {
    if (entry === null)
      return Object.values(entryField).flatMap((field) => (field === entryField.of ? [] : [[field, 0] as const]));
    return [
      [entryField.frame, (entry.frame ?? -1) + 1],
      [entryField.rights, rightsNumber(entry.rights ?? 'rw')],
      [entryField.type, this.texts.wordOf(entry.type ?? '')],
      [entryField.hw, entry.hw === false ? 0 : 1],
      [entryField.table, entry.table === undefined ? 0 : this.memory.table(entry.table) + 1],
      [entryField.present, 1],
    ];
  }

  /** One store of a whole entry. For use inside of `step`. */
  putEntry(table: string, index: number, entry: Entry | null): void {
    const id = this.memory.table(table);
    for (const [field, value] of this.fields(entry)) this.putField(table, index, field, value);
    this.memory.rememberWhole(id, index, this.wholeOf(id, index, 'cpu'));
  }

  /** What makes an entry the one it is, for telling whether it was ever stored so. */
  protected wholeOf(table: number, index: number, copy: Copy): number {
    const at = copy === 'cpu' ? this.memory.entry(table, index) : this.memory.memoryEntry(table, index);
    let h = 17;
    for (let field = 0; field < entryField.of; field++) h = (Math.imul(h, 31) + this.memory.get(at + field)) | 0;
    return h;
  }

  lookEntry(table: string, index: number, copy: Copy = 'cpu'): SeenEntry {
    return this.entryAt(this.memory.table(table), index, copy);
  }

  protected entryAt(table: number, index: number, copy: Copy): SeenEntry {
    const at = copy === 'cpu' ? this.memory.entry(table, index) : this.memory.memoryEntry(table, index);
    const get = (field: number): number => this.memory.get(at + field);
    return {
      present: get(entryField.present) !== 0,
      frame: get(entryField.frame) - 1,
      rights: get(entryField.rights),
      type: get(entryField.type) === 0 ? '' : (this.texts.textOf(get(entryField.type)) ?? ''),
      hw: get(entryField.hw) !== 0,
      table: get(entryField.table) - 1,
    };
  }

  /** Null: nothing is there. */
  p2mRead(domain: number, gfn: number): SeenEntry | null {
    const seen = this.step('p2mRead', `p2m(${domain})[${gfn}]`, () => this.lookEntry(`p2m(${domain})`, gfn));
    return seen?.present === true ? seen : null;
  }
  /** False: the step failed, and nothing has changed. */
  p2mWrite(domain: number, gfn: number, entry: Entry): boolean {
    return this.store('p2mWrite', `p2m(${domain})`, gfn, entry);
  }
  p2mClear(domain: number, gfn: number): boolean {
    return this.store('p2mClear', `p2m(${domain})`, gfn, null);
  }
  ioWrite(domain: number, dfn: number, entry: Entry): boolean {
    return this.store('ioWrite', `io(${domain})`, dfn, entry);
  }
  ioClear(domain: number, dfn: number): boolean {
    return this.store('ioClear', `io(${domain})`, dfn, null);
  }
  /** One store of a whole entry of any table. */
  ptWrite(table: string, index: number, entry: Entry | null): void {
    this.store('ptWrite', table, index, entry);
  }

  private store(
    kind: 'p2mWrite' | 'p2mClear' | 'ioWrite' | 'ioClear' | 'ptWrite',
    table: string,
    index: number,
    entry: Entry | null,
  ): boolean {
    return (
      this.step(kind, `${table}[${index}] := ${describe(entry)}`, () => {
        this.putEntry(table, index, entry);
        return true;
      }) ?? false
    );
  }

  /**
   * An update of a live entry in several stores, a step each: what a walker reads between them was never stored as a whole. `null`
   * in a group clears the entry.
   */
  ptWriteFields(table: string, index: number, groups: readonly (Entry | null)[]): void {
    const id = this.memory.table(table);
    for (const [i, group] of groups.entries()) {
      const text =
        group === null
          ? 'empty'
          : Object.entries(group)
              .map(([name, value]) => `${name} ${String(value)}`)
              .join(', ');
      this.step('ptWriteField', `${table}[${index}]: ${text}`, () => {
        for (const [field, value] of this.someFields(group)) this.putField(table, index, field, value);
        if (i === groups.length - 1) this.memory.rememberWhole(id, index, this.wholeOf(id, index, 'cpu'));
      });
    }
  }

  private someFields(group: Entry | null): readonly (readonly [number, number])[] {
    if (group === null) return this.fields(null);
    const given: Readonly<Record<string, number>> = entryField;
    const wanted = new Set(Object.keys(group).map((name) => given[name]));
    const some = this.fields(group).filter(([field]) => wanted.has(field));
    return wanted.has(entryField.rights) ? [...some, [entryField.present, 1], [entryField.hw, 1]] : some;
  }

  /** A table page from the pool, all empty. False: there was none. */
  ptAlloc(table: string): boolean {
    return (
      this.step('ptAlloc', table, () => {
        const id = this.memory.table(table);
        for (let i = 0; i < size.entries; i++) this.putEntry(table, i, null);
        this.memory.set(this.memory.tableLive(id), 1);
        return true;
      }) ?? false
    );
  }
  /** The table page has left its tree. */
  ptFree(table: string): void {
    this.step('ptFree', table, () => this.memory.set(this.memory.tableLive(this.memory.table(table)), 0));
  }
  lookLive(table: string): boolean {
    return this.memory.get(this.memory.tableLive(this.memory.table(table))) !== 0;
  }
  /** A line of a table goes from the CPU's cache to memory. */
  cacheWriteback(table: string, index: number): void {
    this.step('cacheWriteback', `${table}[${index}]`, () => {
      const id = this.memory.table(table);
      for (let field = 0; field < entryField.of; field++)
        this.memory.set(
          this.memory.memoryEntry(id, index) + field,
          this.memory.get(this.memory.entry(id, index) + field),
        );
    });
  }

  /** -1: it names none. */
  lookM2p(f: number): number {
    return this.memory.get(this.memory.m2p(f)) - 1;
  }
  m2pRead(f: number): number {
    return this.step('m2pRead', `frame ${f}`, () => this.lookM2p(f)) ?? -1;
  }
  m2pWrite(f: number, gfn: number): void {
    this.step('m2pWrite', `frame ${f} := ${gfn < 0 ? 'none' : `gfn ${gfn}`}`, () => this.putM2p(f, gfn));
  }
  putM2p(f: number, gfn: number): void {
    this.memory.set(this.memory.m2p(f), gfn + 1);
  }

  private deviceFields(entry: Partial<DeviceEntry> | null): readonly (readonly [number, number])[] {
    if (entry === null) return [[deviceEntryField.present, 0]];
    const { domain, table, did } = entry;
    return [
      ...(domain === undefined ? [] : [[deviceEntryField.domain, domain] as const]),
      ...(table === undefined ? [] : [[deviceEntryField.table, this.memory.table(table)] as const]),
      ...(did === undefined ? [] : [[deviceEntryField.did, did] as const]),
    ];
  }
  /** For use inside of `step`. */
  putDeviceEntry(device: number, entry: DeviceEntry | null): void {
    const at = this.memory.deviceEntry(device);
    const whole = entry === null ? null : { table: `io(${entry.domain})`, did: entry.domain, ...entry };
    for (const [field, value] of this.deviceFields(whole)) this.memory.set(at + field, value);
    if (whole !== null) this.memory.set(at + deviceEntryField.present, 1);
  }
  /** False: it failed. Null: the device has no tables. */
  ctxWrite(device: number, entry: DeviceEntry | null): boolean {
    return this.replace('ctxWrite', device, entry);
  }
  /** One exchange of the old entry for the new one. */
  ctxSwap(device: number, entry: DeviceEntry): boolean {
    return this.replace('ctxSwap', device, entry);
  }
  private replace(kind: 'ctxWrite' | 'ctxSwap', device: number, entry: DeviceEntry | null): boolean {
    const text = entry === null ? 'none' : `tables of d${entry.domain}`;
    return (
      this.step(kind, `device ${device} := ${text}`, () => {
        this.putDeviceEntry(device, entry);
        return true;
      }) ?? false
    );
  }
  /** Some fields of a live entry; `present` says whether translation is on. */
  ctxWriteField(device: number, fields: Partial<DeviceEntry> & { readonly present?: boolean }): void {
    const text = Object.entries(fields)
      .map(([name, value]) => `${name} ${String(value)}`)
      .join(', ');
    this.step('ctxWriteField', `device ${device}: ${text}`, () => {
      const at = this.memory.deviceEntry(device);
      for (const [field, value] of this.deviceFields(fields)) this.memory.set(at + field, value);
      if (fields.present !== undefined) this.memory.set(at + deviceEntryField.present, fields.present ? 1 : 0);
    });
  }
  /** Null: it has no tables. */
  lookDeviceEntry(device: number): { readonly domain: number; readonly table: number; readonly did: number } | null {
    const at = this.memory.deviceEntry(device);
    if (this.memory.get(at + deviceEntryField.present) === 0) return null;
    const get = (field: number): number => this.memory.get(at + field);
    return { domain: get(deviceEntryField.domain), table: get(deviceEntryField.table), did: get(deviceEntryField.did) };
  }
}
