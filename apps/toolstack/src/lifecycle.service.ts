// What becomes of a domain that stops by itself: the toolstack hears of a shutdown, or of a guest process that is no more, and
// applies on_poweroff, on_reboot or on_crash. A guest whose process died without a word has crashed.
import { Inject, Injectable } from '@nestjs/common';
import { logText } from '#formats/xl-output';
import { type DomainInfo, domInfoFlag, shutdownReason } from '#model/hypercall/calls';
import type { ShutdownAction } from '#model/toolstack/guest-config';
import type { OpResult } from '#model/toolstack/ports';
import type { Watch } from '#wire/xenstore';
import { Dom0Service } from './dom0.service.ts';
import { DomainsService, type Managed } from './domains.service.ts';
import { type Placed, PlacementService } from './placement.service.ts';
import { XenstoreService } from './xenstore.service.ts';

const DOM0 = 0;
/** Should the watch be missed. */
const LOOK_MS = 1000;
const REASON_SHIFT = 16;
const REASON_MASK = 0xff;

/** libxl's name of what ended the domain, and what its configuration says to do then. */
function actionFor(
  reason: number,
  { onPoweroff, onReboot, onCrash }: Managed['built']['build']['config'],
): ShutdownAction {
  switch (reason) {
    case shutdownReason.poweroff:
      return onPoweroff;
    case shutdownReason.reboot:
      return onReboot;
    case shutdownReason.suspend:
      return 'preserve';
    default:
      return onCrash;
  }
}

const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

@Injectable()
export class LifecycleService {
  readonly #dom0: Dom0Service;
  readonly #domains: DomainsService;
  readonly #placement: PlacementService;
  readonly #xenstore: XenstoreService;
  /** Domains that were left as they are, to be looked at (`preserve`). */
  readonly #preserved = new Set<number>();
  #watch: Watch | null = null;
  #timer: NodeJS.Timeout | null = null;
  #looking = false;
  #again = false;

  constructor(
    @Inject(Dom0Service) dom0: Dom0Service,
    @Inject(DomainsService) domains: DomainsService,
    @Inject(PlacementService) placement: PlacementService,
    @Inject(XenstoreService) xenstore: XenstoreService,
  ) {
    this.#dom0 = dom0;
    this.#domains = domains;
    this.#placement = placement;
    this.#xenstore = xenstore;
  }

  async start(): Promise<void> {
    await this.#placement.start((placed, why) => void this.#guestLost(placed, why).catch(complain));
    await this.#domains.recover(say);
    this.#watch = await this.#xenstore.of(DOM0).watch('@releaseDomain', () => this.look());
    this.#timer = setInterval(() => this.look(), LOOK_MS);
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#watch?.stop();
  }

  /** Looks at all domains soon; what changes meanwhile is looked at once more. */
  look(): void {
    this.#again = true;
    if (this.#looking) return;
    this.#looking = true;
    void this.#lookAll().catch(complain);
  }

  async #lookAll(): Promise<void> {
    try {
      while (this.#again) {
        this.#again = false;
        const { infos = [] } = await this.#dom0.call({ op: 'getdomaininfolist', first: 1, max: 1024 });
        const present = new Set(infos.map(({ domid }) => domid));
        for (const domid of this.#preserved) if (!present.has(domid)) this.#preserved.delete(domid);
        for (const info of infos) this.#consider(info);
      }
    } finally {
      this.#looking = false;
    }
  }

  #consider(info: DomainInfo): void {
    const managed = this.#domains.get(info.domid);
    if (!managed || managed.ending || this.#preserved.has(info.domid)) return;
    if ((info.flags & domInfoFlag.shutdown) === 0 || (info.flags & domInfoFlag.dying) !== 0) return;
    const reason = (info.flags >>> REASON_SHIFT) & REASON_MASK;
    void this.#apply(managed, reason, actionFor(reason, managed.built.build.config)).catch(complain);
  }

  async #apply(managed: Managed, reason: number, action: ShutdownAction): Promise<void> {
    const { domid, build } = managed.built;
    say(`Domain ${domid} has shut down, reason code ${reason}: action is ${action}`);
    switch (action) {
      case 'destroy':
      case 'coredump-destroy':
        report(`Domain ${domid}`, await this.#domains.destroy(domid));
        return;
      case 'restart':
      case 'rename-restart':
      case 'coredump-restart':
      case 'soft-reset':
        report(`Restart of ${build.config.name}`, await this.#domains.reboot(managed));
        return;
      case 'preserve':
        this.#preserved.add(domid);
        await this.#placement.end(domid);
        return;
      default:
        action satisfies never;
    }
  }

  /** Nobody runs its vCPUs: unless it shut down before, it has crashed. */
  async #guestLost({ domid, incarnation }: Placed, why: string): Promise<void> {
    const managed = this.#domains.get(domid);
    if (managed?.ending) return;
    const { info } = await this.#dom0.call({ op: 'getdomaininfo', domid });
    if (!info || (info.flags & (domInfoFlag.shutdown | domInfoFlag.dying)) !== 0) return this.look();
    say(`Domain ${domid} (incarnation ${incarnation}) has lost its guest process: ${why}`);
    await this.#dom0.call({ op: 'remote_shutdown', domid, reason: shutdownReason.crash });
    this.look();
  }
}

function report(what: string, { log }: OpResult): void {
  for (const line of log) say(`${what}: ${logText(line)}`);
}

/** The hypervisor may be going; its end is noticed elsewhere. */
function complain(error: unknown): void {
  process.stderr.write(`toolstack: ${error instanceof Error ? error.message : String(error)}\n`);
}
