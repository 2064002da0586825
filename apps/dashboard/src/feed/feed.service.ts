// Follows the host for all pages together: its streams become events of the one log, its looks are handed to those who want them, and
// the hypervisor is asked to look only while somebody watches.
import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import { type Machine, WANTS_MAX } from '#wire/hv-messages';
import { decodeLook, encodeLook, type LiveDomain, type LiveWant } from '#wire/live';
import type { StreamName } from '#wire/names';
import { readStream } from '#wire/streams';
import { Audience } from './audience.ts';
import { EventLog } from './event-log.ts';
import { consoleEvent, faultEvent, guestEvents } from './host-events.ts';
import { HostLinkService } from './host-link.service.ts';
import { SideFigures } from './side-figures.ts';

const RENEW_MS = 1000;
const LEASE_MS = 3000;
const SLOW_MS = 1000;
const RETRY_MS = 500;
/** The hypervisor counts as away after so many renewals without an answer. */
const SILENT_MAX = 3;

@Injectable()
export class FeedService {
  readonly log = new EventLog();
  readonly audience = new Audience();
  machine: Machine | null = null;
  /** Whether the hypervisor answered lately. */
  alive = false;
  private readonly link: HostLinkService;
  private readonly side: SideFigures;
  private readonly ending = new AbortController();
  private domains: readonly LiveDomain[] = [];
  private fresh = true;
  private silent = 0;
  private renewing: Promise<void> | null = null;
  private again = false;
  private onLook: () => void = () => {};
  private onAlive: (alive: boolean) => void = () => {};

  constructor(@Inject(HostLinkService) link: HostLinkService) {
    this.link = link;
    this.side = new SideFigures(link.redis, link.hostId);
  }

  /** `onLook`: there is something new to show. `onAlive`: the hypervisor went away or came back. */
  async start(onLook: () => void, onAlive: (alive: boolean) => void): Promise<void> {
    this.onLook = onLook;
    this.onAlive = onAlive;
    await this.link.open();
    this.machine = (await this.link.ask({ op: 'machine' })).machine;
    this.setAlive(true);
    this.follow('console', 'start', (record, tsMs) => this.log.add(consoleEvent(tsMs, record.toString())));
    this.follow('faults', 'start', (record) => {
      const event = faultEvent(record, (sbdf) => this.unitOf(sbdf));
      if (event) this.log.add(event);
    });
    this.follow('guest', 'start', (record) => {
      for (const event of guestEvents(record)) this.log.add(event);
    });
    this.follow('live', 'now', (record) => this.look(record));
    void this.keepWatching();
    void this.keepLookingAside();
  }

  async close(): Promise<void> {
    this.ending.abort();
    // The threads need not take notes until the lease runs out.
    if (this.audience.size > 0)
      await this.link.ask({ op: 'watch', leaseMs: 0, wants: [], fresh: false }).catch(() => {});
    await this.link.close();
  }

  /** Pages came, went, or want something else. */
  audienceChanged(): void {
    this.again = true;
    this.renewing ??= this.renew().finally(() => {
      this.renewing = null;
    });
  }

  private async keepWatching(): Promise<void> {
    const { signal } = this.ending;
    while (!signal.aborted) {
      this.audienceChanged();
      await this.renewing;
      await sleep(RENEW_MS, undefined, { signal }).catch(() => {});
    }
  }

  private async renew(): Promise<void> {
    while (this.again && !this.ending.signal.aborted) {
      this.again = false;
      const wants = [...this.audience.union(WANTS_MAX)];
      try {
        if (this.audience.size === 0) {
          // Nobody looks: whether it lives is asked all the same, so that the next page knows.
          await this.link.ask({ op: 'info' });
        } else {
          await this.link.ask({ op: 'watch', leaseMs: LEASE_MS, wants: wants as LiveWant[], fresh: this.fresh });
          this.fresh = false;
        }
        this.silent = 0;
        this.setAlive(true);
      } catch {
        this.fresh = true;
        if (++this.silent >= SILENT_MAX) this.setAlive(false);
      }
    }
  }

  private async keepLookingAside(): Promise<void> {
    const { signal } = this.ending;
    while (!signal.aborted) {
      if (this.audience.size > 0) {
        try {
          this.audience.show('slow', encodeLook(await this.side.look(this.domains)));
          this.onLook();
        } catch {
          // Redis is away: the figures are old until it is back.
        }
      }
      await sleep(SLOW_MS, undefined, { signal }).catch(() => {});
    }
  }

  private setAlive(alive: boolean): void {
    if (alive === this.alive) return;
    this.alive = alive;
    this.onAlive(alive);
  }

  private unitOf(sbdf: number): number {
    return this.machine?.devices.find((device) => device.sbdf === sbdf)?.unit ?? 0;
  }

  private look(record: Buffer): void {
    const { head } = decodeLook(record);
    if (head.kind === 'pulse') this.domains = head.domains;
    this.audience.show('key' in head ? head.key : head.kind, record);
    this.onLook();
  }

  /** From the oldest record kept, or from now on; begins again where Redis cut it off. */
  private follow(name: StreamName, from: 'start' | 'now', each: (record: Buffer, tsMs: number) => void): void {
    const { redis, hostId } = this.link;
    const { signal } = this.ending;
    void (async () => {
      let begin = from;
      while (!signal.aborted) {
        try {
          for await (const { records, id } of readStream({ redis, hostId, name, from: begin, signal })) {
            const tsMs = Number(id.split('-')[0]);
            for (const record of records) each(record, tsMs);
          }
        } catch {
          begin = 'now';
        }
        await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
      }
    })();
  }
}
