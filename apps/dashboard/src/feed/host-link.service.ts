// This process's ways to its host: Redis, the hypervisor's and the toolstack's queues. Answers are the host's own; what fails is a
// sentence. It decides nothing and keeps nothing.
import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { connect } from '#wire/connection';
import { type ControlClient, openControl, xlControl } from '#wire/control';
import type { Deed, DeedResult, Question } from '#wire/dashboard';
import { type HvReply, type HvRequest, hvControl } from '#wire/hv-messages';
import type { XlReply, XlRequest } from '#wire/messages';
import { DASHBOARD_CONFIG, type DashboardConfig } from '../config.ts';
import { type Verb, verbsOf } from './deeds.ts';

const HV_MS = 5_000;
const CHECK_MS = 60_000;
const XL_TAKE_MS = 10_000;
const XL_REPLY_MS = 120_000;

type ReplyOf<O extends HvRequest['op']> = Extract<HvReply, { op: O }>;

@Injectable()
export class HostLinkService {
  readonly redis: Redis;
  readonly hostId: string;
  private hv: ControlClient<HvRequest, HvReply> | null = null;
  private xl: ControlClient<XlRequest, XlReply> | null = null;

  constructor(@Inject(DASHBOARD_CONFIG) config: DashboardConfig) {
    this.hostId = config.hostId;
    this.redis = connect(config.redis);
  }

  async open(): Promise<void> {
    [this.hv, this.xl] = await Promise.all([
      openControl(this.redis, this.hostId, hvControl),
      openControl(this.redis, this.hostId, xlControl),
    ]);
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.hv?.close(), this.xl?.close()]);
    this.redis.disconnect();
  }

  /** Rejects when the hypervisor refuses, or does not answer. */
  async ask<R extends HvRequest>(request: R, timeoutMs = HV_MS): Promise<ReplyOf<R['op']>> {
    if (!this.hv) throw new Error('the dashboard is still starting');
    const reply = await this.hv.request(request, timeoutMs);
    if (reply.op === 'refused') throw new Error(reply.why);
    return reply as ReplyOf<R['op']>; // an answer has the operation of its question
  }

  async answer(question: Question): Promise<unknown> {
    switch (question.ask) {
      case 'why':
        return (await this.ask({ op: 'why', sbdf: question.sbdf, dfn: question.dfn })).why;
      case 'frame':
        return (await this.ask({ op: 'frame', mfn: question.mfn })).frame;
      case 'gfn': {
        const { domid, gfn } = question;
        const [{ peek }, { changes }] = await Promise.all([
          this.ask({ op: 'peek', domid, gfn }),
          this.ask({ op: 'changes', domid, gfn }),
        ]);
        return { ...peek, changes };
      }
      default:
        return question satisfies never;
    }
  }

  /** Settles with what the command printed, also when it failed. */
  async carryOut(deed: Deed): Promise<DeedResult> {
    try {
      if (deed.do === 'check-invariants') return await this.checkInvariants();
      let result: DeedResult = { ok: true, text: 'done' };
      for (const verb of verbsOf(deed)) {
        result = await this.run(verb);
        if (!result.ok) break;
      }
      return result;
    } catch (error) {
      return { ok: false, text: error instanceof Error ? error.message : String(error) };
    }
  }

  private async run({ verb, args }: Verb): Promise<DeedResult> {
    if (!this.xl) throw new Error('the dashboard is still starting');
    const reply = await this.xl.request({ verb, args: [...args] }, XL_TAKE_MS, XL_REPLY_MS);
    const text = [reply.stdout, reply.stderr].map((part) => part.trim()).filter((part) => part !== '');
    return { ok: reply.exitCode === 0, text: text.join('\n') || 'done' };
  }

  private async checkInvariants(): Promise<DeedResult> {
    const { checked, violations, ms } = await this.ask({ op: 'check-invariants' }, CHECK_MS);
    const broken = violations.map(({ invariant, text }) => `${invariant}: ${text}`);
    if (broken.length > 0) return { ok: false, text: broken.join('\n') };
    return { ok: true, text: `all ${checked.length} state invariants hold (looked at in ${ms.toFixed(0)} ms)` };
  }
}
