// One guest process as its supervisor sees it: started with the domain's own rights, commanded, listened to, ended. Restarts
// nothing: what follows from an exit is the toolstack's decision.
import { type ChildProcess, fork } from 'node:child_process';
import { extname } from 'node:path';
import type { GuestCommand } from '#model/guest/guest-spec';
import type { FromGuest, GuestPlacement, TimedEvent, ToGuest } from './guest/ipc.ts';

export interface GuestExit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly why: string;
  readonly expected: boolean;
}

export interface GuestProcessOptions {
  readonly placement: GuestPlacement;
  readonly onEvents: (events: readonly TimedEvent[]) => void;
  readonly onExit: (exit: GuestExit) => void;
}

const ATTACH_TIMEOUT_MS = 15_000;
/** The machine's environment, without what the supervisor itself was told. */
const guestEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HOSTLOOM_')));

interface Waiter {
  readonly event: string;
  readonly id: string | null;
  readonly done: (event: TimedEvent | null) => void;
}

export class GuestProcess {
  readonly placement: GuestPlacement;
  readonly #child: ChildProcess;
  readonly #options: GuestProcessOptions;
  readonly #waiters = new Set<Waiter>();
  #lastWords: Extract<FromGuest, { say: 'ending' }> | null = null;
  #stopped = false;
  #exited = false;
  readonly #attached: Promise<void>;
  readonly #isGone = Promise.withResolvers<void>();

  constructor(options: GuestProcessOptions) {
    this.#options = options;
    this.placement = options.placement;
    this.#child = fork(new URL(`./guest/guest-main${extname(import.meta.url)}`, import.meta.url), {
      env: guestEnvironment(),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child.on('exit', (code, signal) => this.#gone(code, signal));
    this.#child.on('error', () => {}); // a message to a process that is ending; its exit is reported
    const boot: ToGuest = { do: 'boot', placement: options.placement };
    this.#child.send(boot);
    this.#attached = this.#untilAttached();
    this.#child.on('message', (message: FromGuest) => this.#hear(message));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Settles when the process is gone and its end was told. */
  get gone(): Promise<void> {
    return this.#isGone.promise;
  }

  /** Settles when its kernel starts to run; rejects, with the process ended, if it cannot. */
  async attached(): Promise<void> {
    try {
      await this.#attached;
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  command(command: GuestCommand): void {
    const message: ToGuest = { do: 'command', command };
    if (!this.#exited) this.#child.send(message);
  }

  /** The first event of that name and id from now on; null if it does not come in time. */
  waitFor(event: string, id: string | null, timeoutMs: number): Promise<TimedEvent | null> {
    return new Promise((resolve) => {
      const settle = (found: TimedEvent | null): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        resolve(found);
      };
      const waiter: Waiter = { event, id, done: settle };
      const timer = setTimeout(() => settle(null), timeoutMs);
      this.#waiters.add(waiter);
      if (this.#exited) settle(null);
    });
  }

  /** Ends it at once: it holds nothing that needs saving. */
  stop(): void {
    this.#stopped = true;
    if (!this.#exited) this.#child.kill('SIGKILL');
  }

  #untilAttached(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`the guest process did not reach its queues within ${ATTACH_TIMEOUT_MS} ms`)),
        ATTACH_TIMEOUT_MS,
      );
      this.#child.on('message', (message: FromGuest) => {
        if (message.say !== 'attached') return;
        clearTimeout(timer);
        resolve();
      });
      this.#child.once('exit', () => {
        clearTimeout(timer);
        reject(
          new Error(
            `the guest process ended before it reached its queues: ${this.#lastWords?.why ?? 'no reason given'}`,
          ),
        );
      });
    });
  }

  #hear(message: FromGuest): void {
    if (message.say === 'ending') this.#lastWords = message;
    if (message.say !== 'events') return;
    this.#options.onEvents(message.events);
    for (const event of message.events) {
      for (const waiter of [...this.#waiters]) if (concerns(waiter, event)) waiter.done(event);
    }
  }

  #gone(code: number | null, signal: string | null): void {
    this.#exited = true;
    for (const waiter of [...this.#waiters]) waiter.done(null);
    const why = this.#lastWords?.why ?? (signal ? `it was ended by ${signal}` : `it ended with status ${code}`);
    const expected = this.#stopped || (this.#lastWords?.expected ?? false);
    this.#options.onExit({ code, signal, why: this.#stopped ? 'it was stopped' : why, expected });
    this.#isGone.resolve();
  }
}

function concerns({ event, id }: Waiter, { name, data }: TimedEvent): boolean {
  return name === event && (id === null || ('id' in data && data.id === id));
}
