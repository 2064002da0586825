// One thread's part in a variant: its actor, its view of the host, its end of the baton. Made anew for every variant; within
// one it plays schedule after schedule.
import { dmaCpu, Host, type HostShared, type Platform } from '#model/host';
import { installSeam } from '#model/shared-memory/step';
import { currentArguments } from './arguments.ts';
import { Baton } from './baton.ts';
import { cachedTranslations } from './cached.ts';
import { actorWord, type Control, detailBit, word } from './control.ts';
import { fallibleIn } from './fallible.ts';
import type { Actor, Litmus, Names, Operation } from './litmus.ts';
import { say } from './mail.ts';
import { Mutator } from './mutator.ts';
import { Narrator } from './narrator.ts';
import { PaperNarrator } from './paper/narrator.ts';
import { Steps } from './paper/steps.ts';
import { Progress } from './progress.ts';
import { makeScheduler, type SchedulerSpec } from './schedulers/make.ts';
import type { Scheduler } from './schedulers/scheduler.ts';
import { digestOf, stateParts } from './state-parts.ts';
import { World } from './world.ts';

/** Everything a thread needs for its part; structured-cloneable. */
export interface PartSpec {
  readonly variant: string;
  readonly shared: HostShared;
  /** Memory to compare with, where changes are to be told. */
  readonly before: HostShared | null;
  readonly control: SharedArrayBuffer;
  readonly names: Names;
  readonly scheduler: SchedulerSpec;
  /** Memory of a step program's paper host. */
  readonly paper: SharedArrayBuffer | null;
  /** To compare it with, where changes are to be told. */
  readonly paperBefore: SharedArrayBuffer | null;
  /** Steps can be left out. */
  readonly mutants: boolean;
}

let baton: Baton | null = null;
let seamInstalled = false;

/** This thread's steps go to whatever part it has at the time. */
function joinSeam(): void {
  if (seamInstalled) return;
  seamInstalled = true;
  installSeam({
    step: (kind, where) => (baton === null ? 0 : baton.step(kind, where)),
    park: (words, index, expected) => {
      if (baton === null) throw new Error('the start of a litmus test waits for somebody');
      baton.park(words, index, expected);
    },
    nowNs: () => 0,
  });
}

/** The actors of a variant, in their order, by name. */
export function actorsOf(test: Litmus, variant: string): readonly (readonly [string, Actor<Names>])[] {
  const replaced = test.variants[variant]?.actors ?? {};
  return Object.entries(test.actors).map(([name, actor]) => [name, replaced[name] ?? actor] as const);
}

export function cpusOf(actors: readonly (readonly [string, Actor<Names>])[], shared: HostShared): number[] {
  let [software, hardware] = [0, 0];
  return actors.map(([, { kind }]) => (kind === 'software' ? software++ : dmaCpu(shared.config, hardware++)));
}

export const operationsOf = ({ does }: Actor<Names>): readonly Operation<Names>[] =>
  typeof does === 'function' ? [does] : does;

export class Part {
  readonly scheduler: Scheduler;
  private readonly index: number;
  private readonly shared: HostShared;
  private readonly names: Names;
  private readonly actor: Actor<Names>;
  private readonly cpu: number;
  private readonly control: Control;
  private readonly baton: Baton;
  private readonly narrator: { tell(): void } | null;
  private readonly test: Litmus;
  private readonly spec: PartSpec;
  private world: World;

  constructor(test: Litmus, spec: PartSpec, control: Control, index: number) {
    joinSeam();
    const actors = actorsOf(test, spec.variant);
    const cpus = cpusOf(actors, spec.shared);
    const [, actor] = actors[index] as readonly [string, Actor<Names>]; // the coordinator counts them
    this.test = test;
    this.spec = spec;
    this.index = index;
    this.shared = spec.shared;
    this.names = spec.names;
    this.actor = actor;
    this.cpu = cpus[index] as number;
    this.control = control;
    this.world = this.makeWorld();
    this.scheduler = makeScheduler(spec.scheduler, control, actors.length);
    this.narrator = this.makeNarrator(cpus);
    this.baton = new Baton(
      control,
      {
        index,
        // The locks of a paper host know actors by their numbers.
        cpus: spec.paper === null ? cpus : actors.map((_, actor) => actor),
        hardware: actors.map(([, { kind }]) => kind === 'hardware'),
        locks: spec.paper === null ? this.world.host.lockTable : this.world.steps.locks,
        buffers: [...Object.values(spec.shared.buffers), ...(spec.paper === null ? [] : [spec.paper])],
        fallible: fallibleIn(test),
        mutator: this.makeMutator(),
        progress: new Progress(control, index, () => this.digest()),
        describe: () => this.tell(),
      },
      this.scheduler,
    );
  }

  private makeNarrator(cpus: readonly number[]): { tell(): void } | null {
    const { spec, control, world } = this;
    if (spec.paperBefore !== null) return new PaperNarrator(world.steps, control, spec.paperBefore);
    return spec.before === null ? null : new Narrator(world.host, spec.before, control, cpus);
  }

  private digest(): string {
    const { host } = this.world;
    return digestOf(this.spec.paper === null ? stateParts(host) : [this.world.steps.memory.stateWords]);
  }

  private makeMutator(): Mutator | null {
    const { spec, control, index, world } = this;
    if (!spec.mutants) return null;
    if (spec.paper !== null) {
      const { memory, locks } = world.steps;
      const { steps } = world;
      const cached = (): string =>
        JSON.stringify([steps.lookAllIotlb(), steps.lookAllTlb(), steps.lookCachedDevices()]);
      return new Mutator(control, { actor: index, state: [memory.stateWords], locks, cached });
    }
    // Counters are no state, the rings of devices are a guest's own.
    const { locks: _, counters: __, panic: ___, devices: ____, ...state } = spec.shared.buffers;
    const views = Object.values(state).map((buffer) => new Int32Array(buffer, 0, buffer.byteLength >> 2));
    const { host } = world;
    return new Mutator(control, {
      actor: index,
      state: views,
      locks: host.lockTable,
      cached: () => cachedTranslations(host),
    });
  }

  private makeWorld(): World {
    const { control, index, test, spec } = this;
    const args = currentArguments(test, control);
    const platform: Platform = {
      printk: (text) => {
        if ((control.get(word.detail) & detailBit.changes) !== 0)
          say(control, { is: 'line', actor: index, at: control.get(word.events), text });
      },
      violation: (v) => say(control, { is: 'violation', actor: index, at: control.get(word.events), ...v }),
    };
    const host = new Host(this.shared, this.cpu, platform);
    const observe = (text: string): void => {
      if ((control.get(word.detail) & detailBit.answers) !== 0) say(control, { is: 'answer', actor: index, text });
    };
    const steps =
      test.paper === undefined || spec.paper === null
        ? null
        : new Steps({
            spec: test.paper,
            buffer: spec.paper,
            actor: index,
            violate: (invariant, text) => platform.violation({ invariant, text, evidence: {} }),
            args,
          });
    const thread = this.actor.kind === 'hardware' ? this.cpu - this.shared.config.pcpus : -1;
    return new World(host, thread, observe, { args, steps });
  }

  /** What the last step changed, when detail is wanted. */
  tell(): void {
    this.narrator?.tell();
  }

  /** Waits to be called. */
  awaitTurn(): void {
    this.baton.awaitTurn();
  }

  play(): void {
    const { world, actor, names } = this;
    const operations = operationsOf(actor);
    const wanted = this.control.get(this.control.actor(this.index) + actorWord.operations);
    baton = this.baton;
    const whole = this.baton.play(() => {
      world.begin();
      for (const [at, operation] of operations.entries()) if ((wanted & (1 << at)) !== 0) operation(world, names);
    });
    baton = null;
    // What it held when it was broken off is in its locks' own fields as well as in shared memory.
    if (!whole) this.world = this.makeWorld();
  }
}
