// A guest agent: the trusted supervisor of guest processes. Told by environment variables (config.ts); serves placements until
// SIGTERM (exit 0). A wrong variable: one sentence, exit 64. Redis gone for good: exit 69.
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { EnvironmentError, EXIT_HOST_GONE, EXIT_USAGE } from '#wire/environment';
import { epochKey } from '#wire/names';
import { pollKey } from '#wire/redis-time';
import { appModule } from './app.module.ts';
import { readConfig } from './config.ts';
import { SupervisorService } from './supervisor.service.ts';

const EXIT_FAILED = 1;
const LOOK_MS = 500;
/** A private Redis server that is silent so long is gone with its host. */
const UNREACHABLE_MS = 10_000;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const app = await NestFactory.createApplicationContext(appModule(config), {
    logger: ['error'],
    abortOnError: false,
  });
  const supervisor = app.get(SupervisorService);
  let ending = false;
  const end = (status: number): void => {
    if (ending) return;
    ending = true;
    void supervisor.stop().then(() => process.exit(status));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(0));
  // Started with a channel to its launcher: without one left nobody would end it.
  process.on('disconnect', () => end(0));
  pollKey(epochKey(config.hostId), {
    redis: supervisor.redis,
    everyMs: LOOK_MS,
    onAnswer: () => {},
    onSilence: (silentMs) => {
      if (silentMs < UNREACHABLE_MS) return;
      process.stderr.write(`guest-agent: Redis has not answered for ${Math.round(silentMs / 1000)} s\n`);
      end(EXIT_HOST_GONE);
    },
  });
  await supervisor.start();
  process.stdout.write(`guest agent ${supervisor.name} of host ${config.hostId} is up\n`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const known = error instanceof EnvironmentError;
  process.stderr.write(`guest-agent: ${known ? error.message : (error.stack ?? error.message)}\n`);
  process.exit(known ? EXIT_USAGE : EXIT_FAILED);
}
