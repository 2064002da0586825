// The domains this toolstack built: their records, and the operations on them in the order that xl's lock file gives (one
// creation, destruction or restart at a time). What an operation pauses for is done here: a guest's process placed or ended, an
// image copied by dom0's kernel, the firmware's lines printed. It knows no verb and prints nothing.
import { Inject, Injectable } from '@nestjs/common';
import { sharingOf } from '#model/guest/activity/spec';
import { defaultBalloon, type GuestSpec } from '#model/guest/guest-spec';
import type { BuiltDomain } from '#model/toolstack/built-domain';
import { type CreateOptions, defaultCreateOptions } from '#model/toolstack/domain-builder';
import type { GuestConfig } from '#model/toolstack/guest-config';
import { guestPciDevices } from '#model/toolstack/pci-assignment';
import { pciDeviceDefaults } from '#model/toolstack/pci-spec';
import type { OpResult, Pause, PauseResult } from '#model/toolstack/ports';
import { heartbeatKey } from '#wire/names';
import type { ReadKernelOptions } from '#wire/xl-create';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';
import type { OperationArgs, OperationName, OperationResult } from './dom0/operations.ts';
import { Dom0Service } from './dom0.service.ts';
import { DomainRecordsService } from './domain-records.service.ts';
import { OperationsService } from './operations.service.ts';
import { PlacementService } from './placement.service.ts';
import { SqueezedService } from './squeezed.service.ts';

/** A domain under this toolstack's care. */
export interface Managed {
  /** Replaced by each operation that changes it: `update`. */
  built: BuiltDomain;
  /** What its kernel was started with, for a restart. */
  readonly kernel: ReadKernelOptions;
  /** Unix time in seconds. */
  readonly startedAt: number;
  /** Somebody is ending or restarting it: what happens to it meanwhile is expected. */
  ending: boolean;
}

const DOM0 = 0;
/** Pages mapped at a time while an image is copied: a builder writes it piece by piece. */
const COPY_BATCH = 16;
const COPY_TIMEOUT_MS = 60_000;
const IMAGE_TAG = 0x1f8b;

@Injectable()
export class DomainsService {
  readonly #config: ToolstackConfig;
  readonly #dom0: Dom0Service;
  readonly #operations: OperationsService;
  readonly #placement: PlacementService;
  readonly #records: DomainRecordsService;
  readonly #squeezed: SqueezedService;
  readonly #managed = new Map<number, Managed>();
  /** The end of whoever holds xl's lock, or waits for it last. */
  #lock: Promise<unknown> = Promise.resolve();
  #copies = 0;

  constructor(
    @Inject(TOOLSTACK_CONFIG) config: ToolstackConfig,
    @Inject(Dom0Service) dom0: Dom0Service,
    @Inject(OperationsService) operations: OperationsService,
    @Inject(PlacementService) placement: PlacementService,
    @Inject(DomainRecordsService) records: DomainRecordsService,
    @Inject(SqueezedService) squeezed: SqueezedService,
  ) {
    this.#config = config;
    this.#dom0 = dom0;
    this.#operations = operations;
    this.#placement = placement;
    this.#records = records;
    this.#squeezed = squeezed;
  }

  get(domid: number): Managed | null {
    return this.#managed.get(domid) ?? null;
  }

  all(): readonly Managed[] {
    return [...this.#managed.values()];
  }

  create(config: GuestConfig, kernel: ReadKernelOptions): Promise<OpResult<{ readonly domain: BuiltDomain }>> {
    return this.#sized(async () => {
      const result = await this.run('createDomain', [config, this.#createOptions()], kernel);
      if (result.ok) await this.#remember(result.domain, kernel);
      return result;
    });
  }

  destroy(domid: number): Promise<OpResult> {
    const managed = this.get(domid);
    if (managed) managed.ending = true;
    return this.#locked(async () => {
      const result = await this.run('destroyDomain', [domid, managed?.built.devices ?? []]);
      if (result.ok) await this.#forget(domid);
      else if (managed) managed.ending = false;
      return result;
    });
  }

  /** Read back, destroy, wait, create: a new domain of the same name. If that is refused the guest is gone. */
  reboot(managed: Managed): Promise<OpResult<{ readonly domain: BuiltDomain }>> {
    managed.ending = true;
    return this.#sized(async () => {
      const { built, kernel } = managed;
      const result = await this.run('rebootDomain', [built, this.#createOptions()], kernel);
      const { info } = await this.#dom0.call({ op: 'getdomaininfo', domid: built.domid });
      if (!info) await this.#forget(built.domid);
      else managed.ending = false;
      if (result.ok) await this.#remember(result.domain, kernel);
      return result;
    });
  }

  /** What an operation made of a domain that stays. */
  async update(managed: Managed, built: BuiltDomain): Promise<void> {
    managed.built = built;
    await this.#save(managed);
  }

  /**
   * After a toolstack before this one ended without a word: its domains are known again. What it had not finished is undone: a
   * domain without a record is half-built. `say` is told what is found.
   */
  async recover(say: (text: string) => void): Promise<void> {
    const { infos = [] } = await this.#dom0.call({ op: 'getdomaininfolist', first: 1, max: 1024 });
    const present = new Map(infos.map((info) => [info.domid, info]));
    for (const { built, kernel, placed, startedAt } of await this.#records.all()) {
      const { domid, build } = built;
      if (!present.delete(domid)) {
        await this.#records.forget(domid);
        say(`Domain ${domid} (${build.config.name}) is gone: its end or its restart was not finished`);
        continue;
      }
      this.#managed.set(domid, { built, kernel, startedAt, ending: false });
      if (placed) this.#placement.resume(placed);
      say(`Domain ${domid} (${build.config.name}) is known again`);
    }
    for (const { domid, name, devices } of present.values()) {
      say(`Domain ${domid} (${name}) was not finished: it is destroyed`);
      await this.#placement.endUnknown(domid);
      const attached = devices.map((sbdf) => ({ pci: { ...pciDeviceDefaults }, sbdf, windows: [] }));
      await this.#locked(() => this.run('destroyDomain', [domid, attached]));
    }
  }

  /** An operation on a domain that exists; `kernel` for those that start one. */
  run<N extends OperationName>(
    name: N,
    args: OperationArgs<N>,
    kernel: ReadKernelOptions | null = null,
  ): Promise<OperationResult<N>> {
    return this.#operations.run(name, args, (pause) => this.#pause(pause, kernel));
  }

  async #remember(built: BuiltDomain, kernel: ReadKernelOptions): Promise<void> {
    const managed = { built, kernel, startedAt: Math.floor(Date.now() / 1000), ending: false };
    this.#managed.set(built.domid, managed);
    await this.#save(managed);
  }

  #save({ built, kernel, startedAt }: Managed): Promise<void> {
    return this.#records.save({ built, kernel, startedAt, placed: this.#placement.followed(built.domid) });
  }

  async #forget(domid: number): Promise<void> {
    this.#managed.delete(domid);
    await this.#records.forget(domid);
  }

  /** Under xl's lock; where squeezed decides a domain's size, under its lock too. */
  #sized<T>(work: () => Promise<T>): Promise<T> {
    return this.#locked(() => (this.#squeezed.isOn ? this.#squeezed.locked(work) : work()));
  }

  #locked<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#lock.then(work, work);
    this.#lock = mine.catch(() => {});
    return mine;
  }

  #createOptions(): CreateOptions {
    const { libxlPodCheck, autoballoon, claimMode } = this.#config.knobs;
    const populateFirst = this.#config.host.policies.podWithPassthrough === 'populate-first';
    return {
      ...defaultCreateOptions,
      libxlPodCheck,
      autoballoon,
      claimMode,
      populateFirst,
      squeezed: this.#squeezed.startOfDomain(),
    };
  }

  async #pause(pause: Exclude<Pause, { do: 'sleep' }>, kernel: ReadKernelOptions | null): Promise<PauseResult> {
    try {
      switch (pause.do) {
        case 'copy-image':
          return await this.#copyImage(pause.domid, pause.gfn, pause.pages);
        case 'console':
          await this.#dom0.ask({ op: 'console', domid: pause.domid, lines: [...pause.lines] });
          return { ok: true };
        case 'place-guest':
          if (!kernel) throw new Error('a guest to place without a kernel to start');
          if (!kernel.place) return { ok: true };
          if (pause.domain.build.config.type === 'pv') {
            return { ok: false, text: 'this version has no PV kernel to run: use type="pvh" or "hvm"' };
          }
          await this.#placement.place(this.#guestSpec(pause.domain, kernel));
          return { ok: true };
        case 'stop-guest':
          await this.#placement.end(pause.domid);
          return { ok: true };
        default:
          return pause satisfies never;
      }
    } catch (error) {
      return { ok: false, text: (error as Error).message }; // our services throw Errors only
    }
  }

  /**
   * dom0's kernel writes the image through foreign mappings; without a kernel in dom0 there is nobody to map anything. A PV dom0
   * maps frames by its own page tables, which are not modelled: the image is not written there.
   */
  async #copyImage(domid: number, gfn: number, pages: number): Promise<PauseResult> {
    const { hostId, host } = this.#config;
    if (host.policies.mediated === 'A') return { ok: true };
    if ((await this.#dom0.redis.exists(heartbeatKey(hostId, DOM0))) === 0) return { ok: true };
    const id = `image-${domid}-${++this.#copies}`;
    const copy = { do: 'foreign-copy', id, domid, gfn, pages, batch: COPY_BATCH, tag: IMAGE_TAG } as const;
    const done = await this.#placement.command(DOM0, copy, { name: 'foreignCopyDone', id, timeoutMs: COPY_TIMEOUT_MS });
    if (!done) return { ok: false, text: `dom0's kernel did not copy the image within ${COPY_TIMEOUT_MS / 1000} s` };
    const { failed, firstError } = done.data;
    return failed === 0
      ? { ok: true }
      : { ok: false, text: `foreign mapping failed for ${failed} frames (${firstError})` };
  }

  #guestSpec({ domid, build, e820, devices }: BuiltDomain, kernel: ReadKernelOptions): GuestSpec {
    const { policies } = this.#config.host;
    const { config, xenstore } = build;
    return {
      domid,
      name: config.name,
      control: false,
      vcpus: config.vcpus,
      seed: kernel.seed ?? domid,
      // A PVH kernel asks the hypervisor.
      e820: config.type === 'pvh' ? null : e820,
      targetKb: xenstore.target,
      staticMaxKb: xenstore.staticMax,
      bootTouchMb: kernel.bootTouchMb,
      allocation: kernel.allocation,
      balloon: { ...defaultBalloon, ...definedOnly(kernel.balloon), order: policies.balloonOrder },
      foreignMapPlace: policies.foreignMapPlace,
      sharing: sharingOf(policies),
      workloads: kernel.workloads,
      pci: guestPciDevices(this.#config.host.devices, devices),
      timeScale: this.#config.knobs.timeScale,
    };
  }
}

/** Without the keys that are there but undefined. */
function definedOnly<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> }; // what is left of the same keys
}
