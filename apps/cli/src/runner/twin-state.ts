// What is known of one twin's run: its host, what was observed, what the steps did. Owns the questions that can be asked of the
// living host (domains, entries, counters); judging them is evaluate.ts.
import type { Twin } from '#formats/scenario';
import { type DomainInfo, domInfoFlag, shutdownReason } from '#model/hypercall/calls';
import type { InvariantViolation, TimelineEvent } from '#report/verdict';
import type { HvReply, Peek } from '#wire/hv-messages';
import type { XlReply } from '#wire/messages';
import { DomainXenstore } from '#wire/xenstore';
import type { HostInstance } from '../launcher/host-instance.ts';
import type { Observer } from './observer.ts';
import { xenP2mName } from './p2m-names.ts';

export const DOM0 = 'dom0';
const DOM0_DOMID = 0;
const REASON_SHIFT = 16;
const REASON_MASK = 0xff;

/** One xl verb of the timeline and how it ended. */
export interface VerbRecord extends XlReply {
  readonly tsUs: number;
  readonly verb: string;
}

/** What one step of the timeline cost. */
export interface StepCost {
  readonly text: string;
  readonly line: number;
  readonly before: Readonly<Record<string, number>>;
  readonly after: Readonly<Record<string, number>>;
  readonly us: number;
}

export const nowUs = (): number => Math.round((performance.timeOrigin + performance.now()) * 1000);

export class TwinState {
  readonly twin: Twin;
  readonly host: HostInstance;
  readonly observer: Observer;
  readonly startedUs = nowUs();
  readonly timeline: TimelineEvent[] = [];
  readonly verbs: VerbRecord[] = [];
  readonly steps: StepCost[] = [];
  /** Violations found at safepoints and by the steps, by invariant. */
  readonly found = new Map<string, InvariantViolation>();
  /** Names of all domains that existed, by domid. */
  readonly names = new Map<number, string>([[DOM0_DOMID, DOM0]]);
  attempts = 0;
  /** Activities that were begun, by guest and name: where, and the attempts asked of them that are not counted yet. */
  readonly began = new Map<string, { readonly domid: number; readonly wanted: number }>();
  #turn = 0;
  /** Orders about shared GPUs so far. */
  gpuOrders = 0;
  /** Touches of PoD frames before a memory workload began whose touches are the attempts; null: none runs. */
  podTouchesBefore: number | null = null;
  /** A step of the timeline killed the hypervisor. */
  hypervisorKilled = false;
  #xenstore = new Map<number, DomainXenstore>();

  constructor(twin: Twin, host: HostInstance, observer: Observer) {
    this.twin = twin;
    this.host = host;
    this.observer = observer;
  }

  /** All domains, as the hypervisor has them now. */
  async domains(): Promise<readonly DomainInfo[]> {
    const reply = await this.host.xl('list', ['--json']);
    if (reply.exitCode !== 0) throw new Error(`xl list: ${reply.stderr.trim()}`);
    const infos: readonly DomainInfo[] = JSON.parse(reply.stdout); // the toolstack's own format, of this version
    for (const { domid, name } of infos) if (domid !== DOM0_DOMID) this.names.set(domid, name);
    return infos;
  }

  async domain(guest: string): Promise<DomainInfo | null> {
    const infos = await this.domains();
    // After a reboot the old domain may still be dying: the newest of the name counts.
    return infos.findLast(({ domid, name }) => (guest === DOM0 ? domid === DOM0_DOMID : name === guest)) ?? null;
  }

  /** The number of a guest that must exist. */
  async domidOf(guest: string): Promise<number> {
    if (guest === DOM0) return DOM0_DOMID;
    const found = await this.domain(guest);
    if (!found) throw new Error(`there is no guest ${guest} now`);
    return found.domid;
  }

  /** What p2m, IOMMU and IOTLB hold for one gfn; the type by Xen's name. */
  async peek(guest: string | number, gfn: number): Promise<Peek> {
    const domid = typeof guest === 'number' ? guest : await this.domidOf(guest);
    const { peek } = await this.host.hv({ op: 'peek', domid, gfn });
    return { ...peek, p2mType: xenP2mName(peek.p2mType) };
  }

  counters(): Promise<Extract<HvReply, { op: 'counters' }>> {
    return this.host.hv({ op: 'counters' });
  }

  /** KiB, or null before the toolstack wrote it. */
  async memoryTarget(domid: number): Promise<number | null> {
    const text = await this.#node(domid, 'memory/target');
    return text === null ? null : Number(text);
  }

  async staticMax(domid: number): Promise<number | null> {
    const text = await this.#node(domid, 'memory/static-max');
    return text === null ? null : Number(text);
  }

  /** Numbers the orders to activities. */
  nextTurn(): number {
    return ++this.#turn;
  }

  note(event: Omit<TimelineEvent, 'tsUs'>, tsUs = nowUs()): void {
    this.timeline.push({ ...event, tsUs: tsUs - this.startedUs });
  }

  violation(invariant: string, text: string, count = 1, evidence?: string): void {
    const before = this.found.get(invariant);
    if (before) {
      this.found.set(invariant, { ...before, count: before.count + count });
      return;
    }
    const first = { text, tsUs: nowUs() - this.startedUs, ...(evidence === undefined ? {} : { evidence }) };
    this.found.set(invariant, { invariant, count, first });
    this.note({ who: 'invariant', what: `${invariant} violated`, detail: text, tone: 'bad' });
  }

  /** All state invariants, at a safepoint. Answers how many are violated. */
  async checkInvariants(): Promise<number> {
    const { violations } = await this.host.hv({ op: 'check-invariants' });
    for (const { invariant, text, evidence } of violations)
      this.violation(invariant, text, 1, JSON.stringify(evidence));
    return violations.length;
  }

  async close(): Promise<void> {
    for (const store of this.#xenstore.values()) store.close();
    await this.observer.close();
  }

  #node(domid: number, path: string): Promise<string | null> {
    let store = this.#xenstore.get(domid);
    if (!store) {
      // It only reads; the guest's side is the one without rights over the toolstack's nodes.
      store = new DomainXenstore({ redis: this.host.redis, hostId: this.host.hostId, domid, writer: 'guest' });
      this.#xenstore.set(domid, store);
    }
    return store.read(path);
  }
}

export const isShutdown = (info: DomainInfo): boolean => (info.flags & domInfoFlag.shutdown) !== 0;
export const isDying = (info: DomainInfo): boolean => (info.flags & domInfoFlag.dying) !== 0;
export const hasCrashed = (info: DomainInfo): boolean =>
  isShutdown(info) && ((info.flags >>> REASON_SHIFT) & REASON_MASK) === shutdownReason.crash;
