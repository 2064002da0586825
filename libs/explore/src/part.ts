// One thread's part in a variant: its actor, its view of the host, its end of the baton. Made anew for every variant; within
// one it plays schedule after schedule.
import { dmaCpu, Host, type HostShared, type Platform } from '#model/host';
import { errno } from '#model/hypercall/errno';
import { installSeam, type StepKindName, stepKind } from '#model/shared-memory/step';
import { Baton } from './baton.ts';
import { actorWord, type Control, detailBit, word } from './control.ts';
import type { Actor, Litmus, Names, Operation } from './litmus.ts';
import { say } from './mail.ts';
import { Narrator } from './narrator.ts';
import { makeScheduler, type SchedulerSpec } from './schedulers/make.ts';
import type { Scheduler } from './schedulers/scheduler.ts';
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
}

/** The steps that can fail on real hardware or for want of memory, each with its error. */
const fallibleKinds: Partial<Record<StepKindName, number>> = {
  ptAlloc: errno.ENOMEM,
  frameAlloc: errno.ENOMEM,
  p2mWrite: errno.ENOMEM,
  ioWrite: errno.ENOMEM,
  ctxWrite: errno.EILSEQ,
  refTake: errno.EINVAL,
  deviceTlbFlush: errno.ETIMEDOUT,
};
/** By kind. */
export const fallible: (number | undefined)[] = [];
for (const [kind, error] of Object.entries(fallibleKinds)) fallible[stepKind[kind as StepKindName]] = error;

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
  private readonly narrator: Narrator | null;
  private world: World;

  constructor(test: Litmus, spec: PartSpec, control: Control, index: number) {
    joinSeam();
    const actors = actorsOf(test, spec.variant);
    const cpus = cpusOf(actors, spec.shared);
    const [, actor] = actors[index] as readonly [string, Actor<Names>]; // the coordinator counts them
    this.index = index;
    this.shared = spec.shared;
    this.names = spec.names;
    this.actor = actor;
    this.cpu = cpus[index] as number;
    this.control = control;
    this.world = this.makeWorld();
    this.scheduler = makeScheduler(spec.scheduler, control, actors.length);
    this.narrator = spec.before === null ? null : new Narrator(this.world.host, spec.before, control, cpus);
    this.baton = new Baton(
      control,
      {
        index,
        cpus,
        hardware: actors.map(([, { kind }]) => kind === 'hardware'),
        lockTable: this.world.host.lockTable,
        buffers: Object.values(spec.shared.buffers),
        fallible,
        describe: () => this.tell(),
      },
      this.scheduler,
    );
  }

  private makeWorld(): World {
    const { control, index } = this;
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
    return new World(host, this.actor.kind === 'hardware' ? this.cpu - this.shared.config.pcpus : -1, observe);
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
