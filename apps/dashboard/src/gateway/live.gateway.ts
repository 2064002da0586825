// The pages' end: admits them, tells each what it may do and what it missed, hands out looks and events, takes questions and deeds.
// Events go to all pages by the adapter, which keeps them; looks go to each page by itself and are dropped when it is slow.
import { Inject } from '@nestjs/common';
import {
  ConnectedSocket,
  MessageBody,
  type OnGatewayConnection,
  type OnGatewayDisconnect,
  type OnGatewayInit,
  SubscribeMessage,
  WebSocketGateway,
  WebSocketServer,
} from '@nestjs/websockets';
import type { Server, Socket } from 'socket.io';
import type { Answered, DeedResult, PageToServer, ServerToPage } from '#wire/dashboard';
import { AccessService } from '../access/access.service.ts';
import type { Right } from '../access/access.ts';
import { Audience, LOOKS_EVERY_MS } from '../feed/audience.ts';
import { deedSchema, deedText } from '../feed/deeds.ts';
import { FeedService } from '../feed/feed.service.ts';
import { HostLinkService } from '../feed/host-link.service.ts';
import { handshakeSchema, questionSchema, wantsSchema } from './questions.ts';

const EVENTS_EVERY_MS = 500;
const PAGES_MAX = 64;
/** Looks of one moment go together. */
const GATHER_MS = 20;

interface PageData {
  mayChange: boolean;
  address: string;
}
type Page = Socket<PageToServer, ServerToPage, Record<string, never>, PageData>;

@WebSocketGateway()
export class LiveGateway implements OnGatewayInit, OnGatewayConnection, OnGatewayDisconnect {
  @WebSocketServer() private readonly server!: Server<PageToServer, ServerToPage, Record<string, never>, PageData>;
  private readonly access: AccessService;
  private readonly feed: FeedService;
  private readonly link: HostLinkService;
  private gathering: NodeJS.Timeout | null = null;
  private events: NodeJS.Timeout | null = null;

  constructor(
    @Inject(AccessService) access: AccessService,
    @Inject(FeedService) feed: FeedService,
    @Inject(HostLinkService) link: HostLinkService,
  ) {
    this.access = access;
    this.feed = feed;
    this.link = link;
  }

  private get audience(): Audience {
    return this.feed.audience;
  }

  afterInit(server: Server): void {
    server.use((socket, next) => this.admit(socket as Page, next));
  }

  async start(): Promise<void> {
    await this.feed.start(
      () => this.gather(),
      (alive) => this.server.emit('host', { alive }),
    );
    this.events = setInterval(() => this.sendEvents(), EVENTS_EVERY_MS);
  }

  async stop(): Promise<void> {
    if (this.events) clearInterval(this.events);
    if (this.gathering) clearTimeout(this.gathering);
    await this.feed.close();
  }

  private admit(page: Page, next: (error?: Error) => void): void {
    const said = handshakeSchema.safeParse(page.handshake.auth);
    const { address, headers } = page.handshake;
    const token = said.success ? said.data.token : undefined;
    const right = said.success ? this.access.rightOf(headers, address, token) : 'none';
    page.data.mayChange = right === 'change';
    page.data.address = address;
    const refusal = this.refusalOf(right, token);
    next(refusal === null ? undefined : new Error(refusal));
  }

  private refusalOf(right: Right, token: string | undefined): string | null {
    if (token !== undefined && right !== 'change') return 'wrong token';
    if (right === 'none') return 'token needed';
    return this.audience.size >= PAGES_MAX ? 'too many pages' : null;
  }

  handleConnection(page: Page): void {
    this.audience.join(page.id);
    this.feed.audienceChanged();
    const said = handshakeSchema.parse(page.handshake.auth); // as it was admitted
    const { log, machine } = this.feed;
    // A page that was away for a moment has got its events from the adapter already.
    const events = page.recovered ? [] : log.since(said.life, said.seq ?? 0);
    page.emit('hello', {
      hostId: this.link.hostId,
      life: log.life,
      mayChange: page.data.mayChange,
      machine,
      events,
      lastSeq: log.lastSeq,
    });
    page.emit('host', { alive: this.feed.alive });
  }

  handleDisconnect(page: Page): void {
    this.audience.leave(page.id);
  }

  @SubscribeMessage('wants')
  wants(@ConnectedSocket() page: Page, @MessageBody() body: unknown): void {
    const wants = wantsSchema.safeParse(body);
    if (!wants.success || !this.access.mayAsk(page.data.address)) return;
    this.audience.want(page.id, wants.data);
    this.feed.audienceChanged();
    this.gather();
  }

  @SubscribeMessage('ask')
  async ask(@ConnectedSocket() page: Page, @MessageBody() body: unknown): Promise<Answered<unknown>> {
    const question = questionSchema.safeParse(body);
    if (!question.success) return { ok: false, why: 'not a question' };
    if (!this.access.mayAsk(page.data.address)) return { ok: false, why: 'too many questions' };
    try {
      return { ok: true, value: await this.link.answer(question.data) };
    } catch (error) {
      return { ok: false, why: error instanceof Error ? error.message : String(error) };
    }
  }

  @SubscribeMessage('do')
  async do(@ConnectedSocket() page: Page, @MessageBody() body: unknown): Promise<DeedResult> {
    if (!page.data.mayChange) return { ok: false, text: 'changing the host needs the token' };
    if (!this.access.mayChange(page.data.address)) return { ok: false, text: 'too many commands at once' };
    const deed = deedSchema.safeParse(body);
    if (!deed.success) return { ok: false, text: deed.error.issues[0]?.message ?? 'not a command' };
    const result = await this.link.carryOut(deed.data);
    this.feed.log.add({
      tsMs: Date.now(),
      kind: 'domain',
      domid: 'domid' in deed.data ? deed.data.domid : -1,
      text: `${deedText(deed.data)}: ${result.ok ? 'done' : (result.text.split('\n').at(-1) ?? 'failed')}`,
    });
    return result;
  }

  private gather(): void {
    this.gathering ??= setTimeout(() => this.sendLooks(), GATHER_MS);
  }

  private sendLooks(): void {
    this.gathering = null;
    const now = performance.now();
    let held = false;
    for (const id of this.audience.ids()) {
      const message = this.audience.due(id, now);
      const page = message && this.server.of('/').sockets.get(id);
      if (page)
        page.volatile.emit('looks', message as unknown as ArrayBuffer); // bytes arrive as an ArrayBuffer
      else held = true;
    }
    // A page that got one just now gets the rest a little later.
    if (held) this.gathering = setTimeout(() => this.sendLooks(), LOOKS_EVERY_MS);
  }

  private sendEvents(): void {
    const batch = this.feed.log.takeBatch();
    if (batch) this.server.emit('events', batch);
  }
}
