// The end of the host: the first panic, from whatever thread, is printed as Xen prints it and ends the process. Owns the text and
// that it happens once; what must be undone before the process ends is told to it by main.ts.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Inject, Injectable } from '@nestjs/common';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import { ConsoleService } from './console.service.ts';
import { HostService } from './host.service.ts';

/** Exit status after a host panic. */
export const EXIT_PANIC = 70;

const STARS = '*'.repeat(40);

@Injectable()
export class PanicService {
  private readonly config: HypervisorConfig;
  private readonly console: ConsoleService;
  private readonly host: HostService;
  private happened = false;
  private end: (() => Promise<void>) | null = null;

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(ConsoleService) console: ConsoleService,
    @Inject(HostService) host: HostService,
  ) {
    this.config = config;
    this.console = console;
    this.host = host;
  }

  /** What ends the process after the text is out. */
  onPanic(end: () => Promise<void>): void {
    this.end = end;
  }

  get panicked(): boolean {
    return this.happened;
  }

  /** `where`: "CPU 3", or the thread's name. Later panics are consequences of the first and are not printed. */
  panic(where: string, text: string, stack: string): void {
    if (this.happened) return;
    this.happened = true;
    const first = this.host.stopModel(text);
    const lines = [STARS, `Panic on ${where}:`, ...first.split('\n'), STARS];
    for (const line of lines) this.host.reports.printk(line);
    this.console.take(this.host.reports.take().lines ?? []);
    this.console.drain();
    process.stderr.write(`${lines.map((line) => `(XEN) ${line}`).join('\n')}\n${stack}\n`);
    if (this.config.runDir) writeFileSync(join(this.config.runDir, 'panic.txt'), `${lines.join('\n')}\n\n${stack}\n`);
    void this.end?.();
  }
}
