// The threads of one litmus test, and the one thing they are for: to play a schedule. The thread that owns a Troupe is the
// coordinator: it sets the host's memory back, plays the first actor itself, and has the outcome when the last one has ended.
import { extname } from 'node:path';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { bootHost } from '#model/boot/boot-host';
import { createHost, Host, mainCpu, type Platform } from '#model/host';
import type { ModelPolicies } from '#model/host-config';
import { currentArguments } from './arguments.ts';
import { actorStatus, actorWord, Control, detailBit, MAX_ARGUMENTS, MAX_EVENTS, runState, word } from './control.ts';
import { fallibleIn } from './fallible.ts';
import { HostMemory } from './host-memory.ts';
import type { Litmus, Names } from './litmus.ts';
import { machineConfig } from './machine.ts';
import { readMail, type Said } from './mail.ts';
import { PaperMemory } from './paper/memory.ts';
import { PaperHost } from './paper/paper-host.ts';
import { actorsOf, cpusOf, Part, type PartSpec } from './part.ts';
import type { SchedulerSpec } from './schedulers/make.ts';
import type { Scheduler } from './schedulers/scheduler.ts';
import { digestOf, stateParts } from './state-parts.ts';
import { describePaperStep, describeStep } from './step-names.ts';
import { execArgvFor } from './thread-options.ts';
import { Setup } from './world.ts';

export interface ActorThreadData {
  readonly path: string;
  readonly index: number;
  readonly control: SharedArrayBuffer;
  readonly port: MessagePort;
}

/** What a schedule is played with. */
export interface Playing {
  readonly seed?: number;
  /** Which fallible step fails; absent: none. */
  readonly failAt?: number;
  /** Bit per operation, by actor; absent: all. */
  readonly operations?: readonly number[];
  /** Which step is left out: of which actor, the how manieth of its own. The troupe was attached with `mutants`. */
  readonly mutant?: { readonly actor: number; readonly step: number };
  readonly detail?: boolean;
  readonly answers?: boolean;
}

export interface Attaching {
  /** Changes can be told. */
  readonly detail?: boolean;
  /** Instead of the variant's. */
  readonly policies?: Partial<ModelPolicies>;
  /** One combination of the test's arguments: which value of each. Absent: the first. */
  readonly places?: readonly number[];
  /** Steps can be left out. */
  readonly mutants?: boolean;
}

/** How a schedule went. */
export interface Played {
  readonly reason: number;
  readonly events: number;
  readonly preemptions: number;
  /** Of everything that happened, in order. */
  readonly hash: string;
  readonly fallible: number;
  readonly culprit: number;
  readonly said: readonly Said[];
}

/** The start of a test is a mistake of its author. */
export class StartFailed extends Error {
  override readonly name = 'StartFailed';
}

const ALL = -1;

export class Troupe {
  readonly test: Litmus;
  readonly control: Control;
  private readonly buffer = Control.create();
  private readonly workers: { readonly worker: Worker; readonly port: MessagePort }[] = [];
  private readonly fallibleKinds: readonly (number | undefined)[];
  private memory: { restore(): void; checkBig(): void } | null = null;
  /** Of a step program. */
  paper: PaperHost | null = null;
  private part: Part | null = null;
  /** The coordinator's view, on a CPU of its own: for looking when nobody runs. */
  host!: Host;
  names: readonly string[] = [];
  /** The start asked for an argument. */
  private startAsks = false;
  cpus: readonly number[] = [];
  hardware: readonly boolean[] = [];

  private constructor(test: Litmus) {
    this.test = test;
    this.fallibleKinds = fallibleIn(test);
    this.control = new Control(this.buffer);
  }

  /** Starts the threads; `path` is what they load. */
  static async start(test: Litmus, path: string, onControl: (buffer: SharedArrayBuffer) => void): Promise<Troupe> {
    const troupe = new Troupe(test);
    onControl(troupe.buffer);
    const entry = new URL(`./actor-thread${extname(import.meta.url)}`, import.meta.url);
    const started = Object.keys(test.actors)
      .slice(1)
      .map((name, i) => {
        const { port1, port2 } = new MessageChannel();
        const workerData: ActorThreadData = { path, index: i + 1, control: troupe.buffer, port: port2 };
        const worker = new Worker(entry, {
          workerData,
          transferList: [port2],
          name,
          stdin: false,
          execArgv: execArgvFor(entry),
        });
        port1.unref();
        troupe.workers.push({ worker, port: port1 });
        return new Promise<void>((resolve, reject) => {
          worker.once('message', () => resolve());
          worker.once('error', reject);
          worker.once('exit', () => reject(new Error(`the thread of ${name} ended`)));
        });
      });
    await Promise.all(started);
    return troupe;
  }

  /** All threads take up their parts of a variant; the host is built and its memory remembered. */
  attach(
    variant: string,
    scheduler: SchedulerSpec,
    { detail = false, policies: given = {}, places = [], mutants = false }: Attaching = {},
  ): void {
    const { test, control } = this;
    const actors = actorsOf(test, variant);
    const { policies = {}, machine = {} } = test.variants[variant] ?? {};
    const hardware = actors.filter(([, { kind }]) => kind === 'hardware').length;
    const wanted = { ...test.machine, ...machine };
    const config = machineConfig(wanted, { ...policies, ...given }, actors.length - hardware, hardware);
    const shared = createHost(config);
    const silent: Platform = { printk: () => {}, violation: () => {} };
    this.host = new Host(shared, mainCpu(config), silent);
    this.names = actors.map(([name]) => name);
    this.cpus = cpusOf(actors, shared);
    this.hardware = actors.map(([, { kind }]) => kind === 'hardware');
    this.choose(places);
    this.startAsks = false;
    const args = currentArguments(test, control, () => {
      this.startAsks = true;
    });
    const names = this.build(wanted.dom0Pages ?? 0, args);
    this.paper = test.paper === undefined ? null : new PaperHost(test.paper, args);
    this.memory = this.paper ?? new HostMemory(this.host);
    const before = detail ? HostMemory.copy(shared) : null;
    const paper = this.paper?.buffer ?? null;
    const paperBefore = detail && paper !== null ? PaperMemory.create() : null;
    const spec: PartSpec = {
      variant,
      shared,
      before,
      control: this.buffer,
      names,
      scheduler,
      paper,
      paperBefore,
      mutants,
    };
    control.scheduler.fill(0);
    control.schedulerDoubles.fill(0);
    // Whoever ended the last schedule may not have left it yet.
    this.waitForLive(0);
    Atomics.store(control.words, word.run, runState.attach);
    this.part = new Part(test, spec, control, 0);
    for (const [i, { port }] of this.workers.entries()) {
      port.postMessage(spec);
      this.call(i + 1);
    }
    this.waitForLive(this.workers.length);
    control.words[word.run] = runState.idle;
    control.words[word.live] = 0;
  }

  fallible(kind: number): boolean {
    return this.fallibleKinds[kind] !== undefined;
  }

  /** A step in words. */
  describe(kind: number, where: number): string {
    const { paper, host } = this;
    return paper === null ? describeStep(host, kind, where) : describePaperStep(paper.steps, kind, where);
  }

  /** The coordinator's own scheduler object. */
  get scheduler(): Scheduler | null {
    return this.part?.scheduler ?? null;
  }

  private build(dom0Pages: number, args: Readonly<Record<string, number>>): Names {
    const { host, test } = this;
    const platform: Platform = {
      printk: () => {},
      violation: ({ invariant, text }) => {
        throw new StartFailed(`the start violates ${invariant}: ${text}`);
      },
    };
    bootHost(host, { memoryPages: dom0Pages, vcpus: 1 });
    return test.start(new Setup(new Host(host.shared, 0, platform), 0, undefined, { args, steps: null }));
  }

  private choose(places: readonly number[]): void {
    for (let i = 0; i < MAX_ARGUMENTS; i++) this.control.words[word.arguments + i] = places[i] ?? 0;
  }

  /** Other arguments for the variant that is attached. False: its start depends on them, so that it must be attached anew. */
  changeArguments(places: readonly number[]): boolean {
    if (!this.startAsks) this.choose(places);
    return !this.startAsks;
  }

  private call(participant: number): void {
    const go = this.control.actor(participant) + actorWord.go;
    Atomics.store(this.control.words, go, 1);
    Atomics.notify(this.control.words, go);
  }

  private waitForLive(wanted: number): void {
    const { words } = this.control;
    for (let now = Atomics.load(words, word.live); now !== wanted; now = Atomics.load(words, word.live)) {
      Atomics.wait(words, word.live, now, 1000);
    }
  }

  /** Plays one schedule from the start. */
  play(playing: Playing = {}): Played {
    const { control, memory, part } = this;
    if (!memory || !part) throw new Error('play before attach');
    const { words } = control;
    memory.restore();
    const actors = this.names.length;
    part.scheduler.begin(playing.seed ?? 0);
    for (const at of [word.events, word.preemptions, word.finished, word.reason, word.hashLow, word.hashHigh])
      words[at] = 0;
    words[word.limit] = MAX_EVENTS;
    words[word.fallible] = 0;
    words[word.failAt] = playing.failAt ?? -1;
    words[word.mutantActor] = playing.mutant?.actor ?? -1;
    words[word.mutantStep] = playing.mutant?.step ?? -1;
    words[word.mutantEffect] = 0;
    words[word.mailBytes] = 0;
    words[word.detail] =
      (playing.detail === true ? detailBit.changes : 0) | (playing.answers === true ? detailBit.answers : 0);
    for (let actor = 0; actor < actors; actor++) {
      words[control.actor(actor) + actorWord.go] = 0;
      words[control.actor(actor) + actorWord.status] = actorStatus.notStarted;
      words[control.actor(actor) + actorWord.operations] = playing.operations?.[actor] ?? ALL;
    }
    words[word.schedules] = (words[word.schedules] as number) + 1;
    const everybody = (1 << actors) - 1;
    words[word.enabled] = everybody;
    words[word.run] = runState.running;
    const first = part.scheduler.pick(-1, everybody, false, 0, -1);
    words[word.current] = first;
    if (first === 0) part.play();
    else this.call(first);
    while (words[word.run] === runState.running) {
      part.awaitTurn();
      const begins = words[control.actor(0) + actorWord.status] === actorStatus.notStarted;
      if (Atomics.load(words, word.run) === runState.running && words[word.current] === 0 && begins) part.play();
    }
    if (words[word.run] === runState.aborting) this.waitForLive(0);
    words[word.run] = runState.idle;
    if (playing.detail === true) part.tell();
    return this.outcome();
  }

  private outcome(): Played {
    const { control } = this;
    const hex = (at: number): string => (control.get(at) >>> 0).toString(16).padStart(8, '0');
    return {
      reason: control.get(word.reason),
      events: control.get(word.events),
      preemptions: control.get(word.preemptions),
      hash: hex(word.hashHigh) + hex(word.hashLow),
      fallible: control.get(word.fallible),
      culprit: control.get(word.culprit),
      said: control.get(word.mailBytes) === 0 ? [] : readMail(control),
    };
  }

  /** All that the invariants are about, as it is now: a digest, to be compared. */
  stateNow(): string {
    const { paper, host } = this;
    return digestOf(paper === null ? stateParts(host) : [paper.steps.memory.stateWords]);
  }

  /** Nothing that schedules touched was left out of what is set back. */
  check(): void {
    this.memory?.checkBig();
  }

  async stop(): Promise<void> {
    for (const { port } of this.workers) port.close();
    await Promise.all(this.workers.map(({ worker }) => worker.terminate()));
  }
}
