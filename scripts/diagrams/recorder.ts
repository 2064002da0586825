// Records a run in one thread as messages: who asked whom for what, and what it changed on the way, from the steps that the model announces.
// Steps of one kind in a row are one message with a number. The time of a message is the number of its first step.
import { type Chapter, type MessageRecord, sequenceDiagram } from '#formats/mermaid';
import type { Domain } from '#model/domain/domain';
import type { Host } from '#model/host';
import type { Answer, AnswerOf, Call, Hypercalls } from '#model/hypercall/calls';
import { type ContinuationState, type Outcome, runCall } from '#model/hypercall/dispatch';
import { type ErrnoName, errno } from '#model/hypercall/errno';
import { installSeam, type StepKind, stepKind } from '#model/shared-memory/step';

const WORDS: Readonly<Partial<Record<StepKind, string>>> = {
  [stepKind.ptWrite]: 'stores a table entry',
  [stepKind.ptAlloc]: 'takes a table page',
  [stepKind.refTake]: 'takes a reference of the frame',
  [stepKind.refDrop]: 'drops a reference of the frame',
  [stepKind.cpuFlush]: 'flushes the CPUs, and waits for those in guest mode',
  [stepKind.iotlbFlush]: 'flushes the IOTLB',
  [stepKind.frameFree]: 'the frame goes to the heap',
  [stepKind.frameAlloc]: 'takes a frame from the heap',
};

/** Of locks that are worth a line; others are left out. */
export type LockNames = (lock: number) => string | null;
/** Whose a step is by what it does, where that is not whoever was called; null: the latter's. */
export type StepOwner = (text: string) => string | null;

const rcText = (rc: number): string => {
  const name = rc < 0 ? (Object.keys(errno) as ErrnoName[]).find((key) => errno[key] === -rc) : undefined; // its own keys
  return name ? `-${name}` : `${rc}`;
};

export class Recorder {
  private readonly messages: MessageRecord[] = [];
  private steps = 0;
  private on = false;
  /** Whose steps they are, innermost last. */
  private readonly actors: string[] = [];
  private lockNames: LockNames = () => null;
  private owner: StepOwner = () => null;
  /** The last message that a step made, and how many of its kind there were. */
  private run: { text: string; count: number; from: string; at: number } | null = null;

  /** Installs the seam: one recorder a process. */
  constructor() {
    installSeam({
      step: (kind, where) => {
        this.steps++;
        if (this.on) this.step(kind, where);
        return 0;
      },
    });
  }

  /** Records `story` and answers its diagram. */
  chapter(title: string, lockNames: LockNames, story: () => void, owner: StepOwner = () => null): string {
    this.messages.length = 0;
    this.steps = 0;
    this.lockNames = lockNames;
    this.owner = owner;
    this.on = true;
    story();
    this.flush();
    this.on = false;
    const chapter: Chapter = { title, messages: [...this.messages] };
    return sequenceDiagram([chapter], { counts: 'steps', limit: 400 });
  }

  /** What happens inside is done by `actor`. */
  as<T>(actor: string, action: () => T): T {
    this.actors.push(actor);
    try {
      return action();
    } finally {
      this.flush();
      this.actors.pop();
    }
  }

  /** Who acts now. */
  get by(): string {
    return this.actors.at(-1) ?? 'nobody';
  }

  say(from: string, to: string, label: string, kind: MessageRecord['kind']): void {
    this.flush();
    this.messages.push({ tsUs: this.steps, from, to, label, kind });
  }

  /** Where a message may be put in later, when it is known what the steps from here on were for. */
  mark(): { readonly index: number; readonly step: number } {
    this.flush();
    return { index: this.messages.length, step: this.steps };
  }

  sayAt(mark: { readonly index: number; readonly step: number }, from: string, to: string, label: string): void {
    this.flush();
    this.messages.splice(mark.index, 0, { tsUs: mark.step, from, to, label, kind: 'fault' });
  }

  private step(kind: StepKind, where: number): void {
    const text = this.textOf(kind, where);
    if (text === null) return;
    const from = this.owner(text) ?? this.by;
    if (this.run?.text === text && this.run.from === from) {
      this.run.count++;
      return;
    }
    this.flush();
    this.run = { text, count: 1, from, at: this.steps };
  }

  private textOf(kind: StepKind, where: number): string | null {
    if (kind === stepKind.lock || kind === stepKind.unlock) {
      const name = this.lockNames(where);
      return name && `${kind === stepKind.lock ? 'takes' : 'lets go of'} ${name}`;
    }
    return WORDS[kind] ?? null;
  }

  private flush(): void {
    const { run } = this;
    this.run = null;
    if (!run) return;
    const label = run.count > 1 ? `${run.text} (${run.count} times)` : run.text;
    this.messages.push({ tsUs: run.at, from: run.from, to: run.from, label, kind: 'event' });
  }

  /** A hypercall of `from`, to its end or to where its vCPU must wait. */
  hypercall(
    h: Host,
    from: Domain,
    name: string,
    call: Call,
    label: string,
    state: ContinuationState | null = null,
  ): Outcome {
    this.say(name, 'Xen', label, 'call');
    const caller = { domain: from, vcpu: 0, preempt: () => false };
    const outcome = this.as('Xen', () => runCall(h, caller, call, state));
    if (outcome.end === 'done') this.say('Xen', name, rcText(outcome.answer.rc), 'reply');
    return outcome;
  }
}

/** A kernel's way to Xen that is recorded. */
export class RecordedPort implements Hypercalls {
  private readonly recorder: Recorder;
  private readonly h: Host;
  private readonly domain: Domain;
  private readonly name: string;
  private readonly label: (call: Call) => string;

  constructor(recorder: Recorder, h: Host, domain: Domain, name: string, label: (call: Call) => string) {
    this.recorder = recorder;
    this.h = h;
    this.domain = domain;
    this.name = name;
    this.label = label;
  }

  call<C extends Call>(call: C): AnswerOf<C['op']> {
    // Its own memory: no call at all, but what its vCPU does in guest mode.
    if (call.op === 'load' || call.op === 'store') return this.use(call);
    const outcome = this.recorder.hypercall(this.h, this.domain, this.name, call, this.label(call));
    if (outcome.end !== 'done') throw new Error(`${call.op} did not end`);
    return outcome.answer as AnswerOf<C['op']>; // each handler answers in its op's shape
  }

  private use<C extends Call>(call: C): AnswerOf<C['op']> {
    const caller = { domain: this.domain, vcpu: 0, preempt: () => false };
    this.recorder.say(this.name, this.name, call.op === 'load' ? 'reads the frame' : 'writes the frame', 'event');
    const outcome = this.recorder.as(this.name, () => runCall(this.h, caller, call, null));
    if (outcome.end !== 'done') throw new Error(`${call.op} did not end`);
    return outcome.answer as AnswerOf<C['op']>; // as above
  }

  multicall(calls: readonly Call[]): readonly Answer[] {
    return calls.map((call) => this.call(call));
  }
}
