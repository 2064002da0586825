// The toolstack process: xl's verbs for one host. Told by environment variables (config.ts); waits for the hypervisor, then serves
// until SIGTERM (exit 0) or until the hypervisor is gone (exit 69). A wrong variable: one sentence, exit 64.
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { EnvironmentError, EXIT_HOST_GONE, EXIT_USAGE } from '#wire/environment';
import { appModule } from './app.module.ts';
import { readConfig } from './config.ts';
import { ToolstackService } from './toolstack.service.ts';

const EXIT_FAILED = 1;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const app = await NestFactory.createApplicationContext(appModule(config), {
    logger: ['error'],
    abortOnError: false,
  });
  const toolstack = app.get(ToolstackService);
  let ending = false;
  const end = (status: number): void => {
    if (ending) return;
    ending = true;
    void toolstack.stop().then(() => process.exit(status));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(0));
  // Started with a channel to its launcher: without one left nobody would end it.
  process.on('disconnect', () => end(0));
  await toolstack.start((why) => {
    process.stderr.write(`toolstack: ${why}\n`);
    end(EXIT_HOST_GONE);
  });
  process.stdout.write(`toolstack of host ${config.hostId} is up\n`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const known = error instanceof EnvironmentError;
  process.stderr.write(`toolstack: ${known ? error.message : (error.stack ?? error.message)}\n`);
  process.exit(known ? EXIT_USAGE : EXIT_FAILED);
}
