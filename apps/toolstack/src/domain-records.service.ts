// What is known of the domains that this toolstack built, kept where a toolstack that is started anew finds it: as libxl keeps
// each domain's configuration beside the domain, here in dom0's xenstore under libxl/DOMID. It knows how a record is stored, not
// what it is for. A record of an earlier hypervisor is nobody's.
import { Inject, Injectable } from '@nestjs/common';
import type { BuiltDomain } from '#model/toolstack/built-domain';
import type { ReadKernelOptions } from '#wire/xl-create';
import { Dom0Service } from './dom0.service.ts';
import type { Placed } from './placement.service.ts';
import { XenstoreService } from './xenstore.service.ts';

const DOM0 = 0;
const ROOT = 'libxl';
const RECORD = 'record';
/** xenstore takes values of 4096 bytes; a record is ASCII and stands in pieces. */
const PIECE = 4000;

export interface DomainRecord {
  readonly built: BuiltDomain;
  readonly kernel: ReadKernelOptions;
  /** Who runs its kernel; null: nobody. */
  readonly placed: Placed | null;
  /** Unix time in seconds, for `xl uptime`. */
  readonly startedAt: number;
}

const ascii = (text: string): string =>
  text.replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

@Injectable()
export class DomainRecordsService {
  readonly #dom0: Dom0Service;
  readonly #xenstore: XenstoreService;

  constructor(@Inject(Dom0Service) dom0: Dom0Service, @Inject(XenstoreService) xenstore: XenstoreService) {
    this.#dom0 = dom0;
    this.#xenstore = xenstore;
  }

  /** All of it or nothing; an older record of the domain is replaced. */
  async save(record: DomainRecord): Promise<void> {
    const { domid } = record.built;
    const text = ascii(JSON.stringify({ epoch: this.#dom0.epoch, ...record }));
    const count = Math.ceil(text.length / PIECE);
    const nodes = Object.fromEntries(
      Array.from({ length: count }, (_, i) => [this.#path(domid, i), text.slice(i * PIECE, (i + 1) * PIECE)]),
    );
    await this.#xenstore.of(DOM0).writeMany({ ...nodes, [this.#path(domid, 'pieces')]: String(count) });
  }

  forget(domid: number): Promise<void> {
    return this.#xenstore.of(DOM0).remove(`${ROOT}/${domid}`);
  }

  /** Those of this hypervisor's domains; others are removed. */
  async all(): Promise<DomainRecord[]> {
    const domids = (await this.#xenstore.of(DOM0).list(ROOT)).filter((name) => /^\d+$/.test(name)).map(Number);
    const records: DomainRecord[] = [];
    for (const domid of domids) {
      const record = await this.#read(domid);
      if (record) records.push(record);
      else await this.forget(domid);
    }
    return records;
  }

  async #read(domid: number): Promise<DomainRecord | null> {
    const store = this.#xenstore.of(DOM0);
    const count = Number(await store.read(this.#path(domid, 'pieces')));
    const pieces = await Promise.all(Array.from({ length: count }, (_, i) => store.read(this.#path(domid, i))));
    if (pieces.length === 0 || pieces.includes(null)) return null;
    // Written by `save`; only a toolstack can write there.
    const { epoch, ...record } = JSON.parse(pieces.join('')) as DomainRecord & { epoch: string };
    return epoch === this.#dom0.epoch ? record : null;
  }

  #path(domid: number, what: string | number): string {
    return `${ROOT}/${domid}/${RECORD}/${what}`;
  }
}
