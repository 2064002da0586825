// The hypervisor process. Told by environment variables (config.ts), it boots a host and serves its vCPU queues until SIGTERM
// (exit 0), a host panic (exit 70) or the loss of Redis (exit 1). A wrong variable or file: one sentence, exit 64.
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { hypervisorModule } from './app.module.ts';
import { ConfigError, EXIT_USAGE, readConfig } from './config.ts';
import { HypervisorService } from './hypervisor.service.ts';
import { EXIT_PANIC, PanicService } from './panic.service.ts';
import { RedisService } from './redis.service.ts';

const EXIT_FAILED = 1;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const app = await NestFactory.createApplicationContext(hypervisorModule(config), {
    logger: ['error'],
    abortOnError: false,
  });
  const hypervisor = app.get(HypervisorService);
  const panic = app.get(PanicService);
  let ending = false;
  const end = async (status: number): Promise<void> => {
    ending = true;
    await hypervisor.stop();
    process.exit(status);
  };
  panic.onPanic(() => end(EXIT_PANIC));
  process.on('uncaughtException', (error) => panic.panic('the main thread', error.message, error.stack ?? ''));
  process.on('unhandledRejection', (reason) => {
    const error = reason instanceof Error ? reason : new Error(String(reason));
    panic.panic('the main thread', error.message, error.stack ?? '');
  });
  app.get(RedisService).onLost(() => {
    process.stderr.write('hypervisor: Redis is gone\n');
    void end(EXIT_FAILED);
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void end(0));
  try {
    await hypervisor.start(() => void end(0));
  } catch (error) {
    // Told to end in the middle of a start: that is what the status says.
    if (!ending) throw error;
    return;
  }
  process.stdout.write(`hypervisor of host ${config.hostId} is up\n`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  const known = error instanceof ConfigError;
  process.stderr.write(`hypervisor: ${known ? error.message : (error.stack ?? error.message)}\n`);
  process.exit(known ? EXIT_USAGE : EXIT_FAILED);
}
