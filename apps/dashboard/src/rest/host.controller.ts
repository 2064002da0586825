// The same by plain HTTP, for programs: figures of the moment, events, questions, deeds; and whether this process is well.
import { Body, Controller, Get, HttpCode, HttpException, Inject, Post, Query, Req, Res } from '@nestjs/common';
import type { Request, Response } from 'express';
import type { DeedResult, HostEvent } from '#wire/dashboard';
import { AccessService } from '../access/access.service.ts';
import { deedSchema } from '../feed/deeds.ts';
import { FeedService } from '../feed/feed.service.ts';
import { HostLinkService } from '../feed/host-link.service.ts';
import { questionSchema } from '../gateway/questions.ts';

const EVENTS_MAX = 1000;

@Controller()
export class HostController {
  private readonly feed: FeedService;
  private readonly link: HostLinkService;
  private readonly access: AccessService;

  constructor(
    @Inject(FeedService) feed: FeedService,
    @Inject(HostLinkService) link: HostLinkService,
    @Inject(AccessService) access: AccessService,
  ) {
    this.feed = feed;
    this.link = link;
    this.access = access;
  }

  @Get('healthz')
  health(): { ok: true } {
    return { ok: true };
  }

  @Get('readyz')
  ready(): { ok: true } {
    if (!this.feed.alive) throw new HttpException({ ok: false, why: 'the hypervisor does not answer' }, 503);
    return { ok: true };
  }

  @Get('api/host')
  host(): object {
    return { hostId: this.link.hostId, alive: this.feed.alive, machine: this.feed.machine };
  }

  @Get('api/counters')
  async counters(): Promise<object> {
    const { counters, wire, violations, pcpuUs } = await this.link.ask({ op: 'counters' });
    return { counters, wire, violations, pcpuUs };
  }

  /** `since`: the last number that the caller has, of the life it got it in. */
  @Get('api/events')
  events(@Query('since') since: string | undefined, @Query('life') life: string | undefined): object {
    const events: HostEvent[] = this.feed.log.since(life ?? this.feed.log.life, Number(since ?? 0) || 0);
    return { life: this.feed.log.life, events: events.slice(0, EVENTS_MAX) };
  }

  @Post('api/ask')
  @HttpCode(200)
  async ask(@Body() body: unknown): Promise<unknown> {
    const question = questionSchema.safeParse(body);
    if (!question.success) throw new HttpException({ error: 'not a question' }, 400);
    try {
      return await this.link.answer(question.data);
    } catch (error) {
      throw new HttpException({ error: error instanceof Error ? error.message : String(error) }, 404);
    }
  }

  @Post('api/do')
  @HttpCode(200)
  async do(
    @Body() body: unknown,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<DeedResult> {
    if (response.locals.right !== 'change') throw new HttpException({ error: 'the token is needed' }, 403);
    if (!this.access.mayChange(request.socket.remoteAddress ?? ''))
      throw new HttpException({ error: 'too many commands at once' }, 429);
    const deed = deedSchema.safeParse(body);
    if (!deed.success) throw new HttpException({ error: deed.error.issues[0]?.message ?? 'not a command' }, 400);
    return this.link.carryOut(deed.data);
  }
}
