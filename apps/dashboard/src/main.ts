// The dashboard of one host: its page, the live connection behind it, and the same by HTTP. Told by environment variables
// (config.ts); serves until SIGTERM (exit 0), or until Redis is gone for good (exit 69). A wrong variable: one sentence, exit 64.
import 'reflect-metadata';
import { existsSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import helmet from 'helmet';
import { EnvironmentError, EXIT_HOST_GONE, EXIT_USAGE } from '#wire/environment';
import { epochKey } from '#wire/names';
import { pollKey } from '#wire/redis-time';
import { AccessService } from './access/access.service.ts';
import { httpAccess } from './access/http-access.ts';
import { appModule } from './app.module.ts';
import { readConfig } from './config.ts';
import { HostLinkService } from './feed/host-link.service.ts';
import { LiveGateway } from './gateway/live.gateway.ts';
import { RedisIoAdapter } from './gateway/redis-io.adapter.ts';

const EXIT_FAILED = 1;
const BODY_MAX = '64kb';
const LOOK_MS = 500;
const UNREACHABLE_MS = 10_000;

/** What vite built: dist/web, wherever in dist/ this file stands. */
function webRoot(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); dir !== dirname(dir); dir = dirname(dir)) {
    const web = join(dir, 'dist', 'web');
    if (existsSync(join(web, 'index.html'))) return web;
  }
  throw new EnvironmentError('the page is not built: run `npm run build`');
}

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const app = await NestFactory.create<NestExpressApplication>(appModule(config), {
    logger: ['error'],
    abortOnError: false,
    bodyParser: false,
  });
  const link = app.get(HostLinkService);
  const access = app.get(AccessService);
  const gateway = app.get(LiveGateway);
  app.disable('x-powered-by');
  app.use(
    helmet({
      contentSecurityPolicy: {
        useDefaults: false,
        directives: {
          defaultSrc: ["'none'"],
          scriptSrc: ["'self'"],
          // Widths and positions of what is drawn are styles of elements.
          styleSrc: ["'self'", "'unsafe-inline'"],
          imgSrc: ["'self'", 'data:'],
          connectSrc: ["'self'"],
          baseUri: ["'none'"],
          formAction: ["'none'"],
          frameAncestors: ["'none'"],
        },
      },
      // It is served by HTTP on the operator's own machine.
      strictTransportSecurity: false,
      referrerPolicy: { policy: 'no-referrer' },
    }),
  );
  app.use(httpAccess(access));
  app.useBodyParser('json', { limit: BODY_MAX });
  app.useStaticAssets(webRoot(), { index: 'index.html', maxAge: 0 });
  app.useWebSocketAdapter(
    new RedisIoAdapter(
      app,
      link.redis,
      config.hostId,
      (request) =>
        access.rightOf({ host: request.headers.host, origin: request.headers.origin }, '', config.token) !== 'none',
    ),
  );
  let ending = false;
  const end = (status: number): void => {
    if (ending) return;
    ending = true;
    void Promise.race([gateway.stop().then(() => app.close()), new Promise((settle) => setTimeout(settle, 1000))]).then(
      () => process.exit(status),
      () => process.exit(status),
    );
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(0));
  process.on('disconnect', () => end(0));
  pollKey(epochKey(config.hostId), {
    redis: link.redis,
    everyMs: LOOK_MS,
    onAnswer: () => {},
    onSilence: (silentMs) => {
      if (silentMs < UNREACHABLE_MS) return;
      process.stderr.write(`dashboard: Redis has not answered for ${Math.round(silentMs / 1000)} s\n`);
      end(EXIT_HOST_GONE);
    },
  });
  await app.listen(config.port, config.bind);
  await gateway.start();
  const { port } = app.getHttpServer().address() as AddressInfo;
  const host = config.bind.includes(':') ? `[${config.bind}]` : config.bind;
  process.stdout.write(`dashboard of host ${config.hostId} listens at http://${host}:${port}/\n`);
  process.stdout.write(`dashboard of host ${config.hostId} is up\n`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const known = error instanceof EnvironmentError;
  process.stderr.write(`dashboard: ${known ? error.message : (error.stack ?? error.message)}\n`);
  process.exit(known ? EXIT_USAGE : EXIT_FAILED);
}
