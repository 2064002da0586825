// The dashboard's server before real sockets: who may do what, how much a page is sent, and that a page which was away for a
// moment misses nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { io, type Socket } from 'socket.io-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type RedisEndpoint } from '#wire/connection';
import type { DeedResult, EventBatch, Hello, PageToServer, ServerToPage } from '#wire/dashboard';
import { unpackLooks } from '#wire/live';
import { streamKey } from '#wire/names';
import { type Dashboard, endHost, startDashboard } from '../support/dashboard.ts';
import { Sandbox } from '../support/hostloom.ts';

type Page = Socket<ServerToPage, PageToServer>;

describe('the dashboard', () => {
  const sandbox = new Sandbox();
  let host: Dashboard;
  const pages: Page[] = [];

  beforeAll(async () => {
    host = await startDashboard(sandbox, 'hosts/seed-2014-haswell.yaml');
  });
  afterAll(async () => {
    for (const page of pages) page.disconnect();
    await endHost(host);
    expect(sandbox.leftovers()).toEqual([]);
    sandbox.dispose();
  });

  const open = (auth: object, headers: Record<string, string> = {}): Page => {
    const page: Page = io(host.origin, { transports: ['websocket'], auth, extraHeaders: headers, forceNew: true });
    pages.push(page);
    return page;
  };
  const hello = (page: Page): Promise<Hello> => new Promise((settle) => page.once('hello', settle));
  const refusal = (page: Page): Promise<string> =>
    new Promise((settle) => page.once('connect_error', ({ message }) => settle(message)));
  const act = (page: Page, deed: object): Promise<DeedResult> => page.emitWithAck('do', deed as never);
  const api = (path: string, init: RequestInit = {}): Promise<Response> => fetch(`${host.origin}${path}`, init);

  it('lets this machine look, and nobody change anything without the token', async () => {
    const page = open({});
    const greeting = await hello(page);
    expect(greeting.mayChange).toBe(false);
    expect(greeting.machine).toMatchObject({ name: 'seed-2014-haswell' });
    expect(await act(page, { do: 'check-invariants' })).toMatchObject({ ok: false, text: /token/ });
    expect((await api('/api/host')).status).toBe(200);
    const body = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"do":"check-invariants"}' };
    expect((await api('/api/do', body)).status).toBe(403);
    const wrong = { ...body, headers: { ...body.headers, authorization: 'Bearer wrong' } };
    expect((await api('/api/do', wrong)).status).toBe(403);
  });

  it('with the token changes the host, by socket and by HTTP', async () => {
    const page = open({ token: host.token });
    expect((await hello(page)).mayChange).toBe(true);
    expect(await act(page, { do: 'check-invariants' })).toMatchObject({ ok: true, text: /invariants hold/ });
    expect(await act(page, { do: 'destroy', domid: 0 })).toMatchObject({ ok: false });
    const answer = await api('/api/do', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${host.token}` },
      body: '{"do":"check-invariants"}',
    });
    expect(await answer.json()).toMatchObject({ ok: true });
  });

  it('refuses a wrong token, pages of other sites, and bodies and messages that are too large', async () => {
    expect(await refusal(open({ token: 'wrong' }))).toBe('wrong token');
    expect(await refusal(open({ token: host.token }, { origin: 'http://evil.example' }))).toMatch(
      /websocket error|403/,
    );
    expect((await api('/api/host', { headers: { origin: 'http://evil.example' } })).status).toBe(403);
    expect((await api('/', { headers: { origin: 'http://evil.example' } })).status).toBe(403);
    const large = { method: 'POST', headers: { 'content-type': 'application/json' }, body: `"${'x'.repeat(100_000)}"` };
    expect((await api('/api/ask', large)).status).toBe(413);
    const page = open({ token: host.token });
    await hello(page);
    const cut = new Promise((settle) => page.once('disconnect', settle));
    void act(page, { do: 'create', config: 'x'.repeat(100_000) }).catch(() => {});
    await cut;
  });

  it('answers with headers that keep the page to itself, and says nothing secret in its logs', async () => {
    const { headers } = await api('/');
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('x-powered-by')).toBeNull();
    expect(host.running.said().split(host.token)).toHaveLength(2);
  });

  it('sends a page no more than ten messages a second, and pictures only of what it wants', async () => {
    const page = open({});
    await hello(page);
    page.emit('wants', [
      { kind: 'map', first: 0, order: 8 },
      { kind: 'lanes' },
      { kind: 'strip', domid: 0, from: 0, to: 0 },
    ]);
    const kinds = new Set<string>();
    let messages = 0;
    page.on('looks', (message) => {
      messages++;
      for (const { head } of unpackLooks(new Uint8Array(message))) kinds.add(head.kind);
    });
    page.on('events', () => messages++);
    const began = performance.now();
    while (kinds.size < 5 && performance.now() - began < 30_000) await new Promise((settle) => setTimeout(settle, 50));
    expect([...kinds].sort()).toEqual(['lanes', 'map', 'pulse', 'slow', 'strip']);
    const from = performance.now();
    messages = 0;
    await new Promise((settle) => setTimeout(settle, 3000));
    expect(messages / ((performance.now() - from) / 1000)).toBeLessThanOrEqual(10);
    expect(messages).toBeGreaterThan(3);
  });

  it('a page whose connection broke gets what it missed, with its rights looked at again', async () => {
    const page = open({ token: host.token });
    const { life, lastSeq } = await hello(page);
    const seen: number[] = [];
    page.on('events', (batch: EventBatch) => seen.push(...batch.events.map(({ seq }) => seq)));
    // A first batch gives the page its place in the stream.
    await act(page, { do: 'check-invariants' });
    await expect.poll(() => seen.length, { timeout: 20_000 }).toBeGreaterThan(0);
    const again = hello(page);
    page.io.engine.close(); // as a network that fails: the client comes back by itself
    const other = open({ token: host.token });
    await hello(other);
    await act(other, { do: 'check-invariants' });
    const greeting = await again;
    expect(greeting.mayChange).toBe(true);
    expect(greeting.life).toBe(life);
    const known = (): Set<number> => new Set([...seen, ...greeting.events.map(({ seq }) => seq)]);
    await expect.poll(() => Math.max(...known()), { timeout: 20_000 }).toBeGreaterThanOrEqual(greeting.lastSeq);
    const newest = Math.max(...known());
    for (let seq = lastSeq + 1; seq <= newest; seq++) expect(known().has(seq), `event ${seq}`).toBe(true);
  });

  it('has the hypervisor draw nothing while nobody looks', async () => {
    const { redis, hostId } = registered(sandbox);
    const connection = connect(redis);
    const newest = async (): Promise<string> =>
      (await connection.xrevrange(streamKey(hostId, 'live'), '+', '-', 'COUNT', 1))[0]?.[0] ?? '';
    const rests = async (): Promise<boolean> => {
      const before = await newest();
      await new Promise((settle) => setTimeout(settle, 1500));
      return before === (await newest());
    };
    try {
      for (const page of pages) page.disconnect();
      await expect.poll(rests, { timeout: 30_000 }).toBe(true);
      await hello(open({}));
      await expect.poll(rests, { timeout: 30_000 }).toBe(false);
    } finally {
      connection.disconnect();
    }
  });
});

/** The one host of the sandbox, as other commands find it. */
function registered({ path }: Sandbox): { redis: RedisEndpoint; hostId: string } {
  const directory = readdirSync(path).find((name) => /^hostloom-\d+$/.test(name)) ?? '';
  const [file = ''] = readdirSync(join(path, directory));
  return JSON.parse(readFileSync(join(path, directory, file), 'utf8'));
}
