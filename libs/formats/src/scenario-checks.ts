// What ties the parts of one resolved twin together: guests, devices, twins and invariants that are named must exist, and
// dom0 must fit its host. Owns those rules and their messages.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { usableBytes } from './host-schema.ts';
import { closestName } from './operator-error.ts';
import type { Assertion, Step, Twin, Workload } from './scenario.ts';
import { checkSharedGpus } from './shared-gpu-checks.ts';
import type { Path, YamlSource } from './yaml-source.ts';

/** Where the parts of a twin stand in the file: its own, or the scenario's where it inherits them. */
export interface TwinPlaces {
  readonly dom0Memory: Path;
  readonly dom0Workload: Path;
  readonly guestWorkload: (guest: string) => Path;
  readonly timeline: Path;
  readonly expect: Path;
}

export interface CheckContext {
  readonly source: YamlSource;
  readonly twinNames: readonly string[];
  /** Names an assertion may use; undefined = any. */
  readonly invariants: readonly string[] | undefined;
}

export function checkTwin(twin: Twin, places: TwinPlaces, context: CheckContext): void {
  const check = new TwinCheck(twin, context);
  check.dom0Size(places.dom0Memory);
  for (const [i, w] of twin.dom0.workload.entries()) check.workload(w, [...places.dom0Workload, i]);
  for (const guest of twin.guests) {
    for (const [i, w] of guest.workload.entries()) check.workload(w, [...places.guestWorkload(guest.name), i]);
  }
  for (const [i, step] of twin.timeline.entries()) check.step(step, [...places.timeline, i]);
  for (const [i, assertion] of twin.expect.entries()) check.assertion(assertion, [...places.expect, i]);
  checkSharedGpus(twin, places, context.source);
}

class TwinCheck {
  private readonly twin: Twin;
  private readonly context: CheckContext;

  constructor(twin: Twin, context: CheckContext) {
    this.twin = twin;
    this.context = context;
  }

  dom0Size(path: Path): void {
    const { host, dom0 } = this.twin;
    const roomMb = Math.floor(usableBytes(host.memoryMap) / 2 ** 20) - host.xenReservedMb;
    if (dom0.memoryMb <= roomMb) return;
    const message = `dom0 of ${dom0.memoryMb} MiB does not fit the host ${host.name}`;
    this.context.source.problem(path, message, `give it at most ${roomMb} MiB`);
  }

  workload(workload: Workload, path: Path): void {
    if ('device' in workload) this.device(workload.device, [...path, 'device']);
  }

  step(step: Step, path: Path): void {
    if ('device' in step) this.device(step.device, [...path, 'device']);
    if (step.do === 'set-target') this.guest(step.target, [...path, 'target']);
    if (step.do === 'begin') for (const peer of step.peers) this.guest(peer, [...path, 'peers']);
    if (step.do === 'finish')
      for (const { guest, run } of step.activities) this.activity(guest, run, [...path, 'activities']);
    if (step.do === 'begin') this.activity(step.guest, step.run, [...path, 'run']);
    if ('guest' in step) this.guest(step.guest, [...path, 'guest']);
    if (step.do === 'squeeze-swap') {
      this.guest(step.shrink, [...path, 'shrink']);
      this.guest(step.grow, [...path, 'grow']);
    }
    if (step.do === 'start') this.workload(step.workload, [...path, 'workload']);
    if (step.do === 'wait-for') this.assertion(step.condition, [...path, 'condition']);
    const notForDom0 = step.do === 'create' || step.do === 'destroy' || step.do === 'reboot';
    if (notForDom0 && step.guest === 'dom0') {
      this.context.source.problem([...path, 'guest'], `dom0 cannot be the guest of ${step.do}`, 'name one of `guests`');
    }
  }

  assertion(assertion: Assertion, path: Path): void {
    switch (assertion.check) {
      case 'fault':
        if (assertion.device !== null) this.device(assertion.device, [...path, 'fault', 'device']);
        break;
      case 'noFault':
        if (assertion.device !== null) this.device(assertion.device, [...path, 'noFault', 'device']);
        break;
      case 'guest':
        this.guest(assertion.guest, [...path, 'guest']);
        break;
      case 'e820':
      case 'pod':
      case 'entry':
        this.guest(assertion.guest, [...path, assertion.check, 'guest']);
        break;
      case 'violated':
      case 'never':
        this.invariant(assertion.invariant, [...path, assertion.check]);
        break;
      case 'greater':
        this.otherTwin(assertion.thanTwin, [...path, 'greater', 'thanTwin']);
        break;
      default:
    }
  }

  private device(sbdf: Sbdf, path: Path): void {
    const { host } = this.twin;
    if (host.devices.some((d) => d.sbdf === sbdf)) return;
    const there = host.devices.map((d) => `${formatSbdf(d.sbdf)} (${d.name})`).join(', ') || 'none';
    const message = `unknown device ${formatSbdf(sbdf)}: the host ${host.name} has none`;
    this.context.source.problem(path, message, `devices of ${host.file}: ${there}`);
  }

  private guest(guest: string, path: Path): void {
    const names = [...this.twin.guests.map((g) => g.name), 'dom0'];
    this.named('guest', guest, names, path);
  }

  /** It is part of a boot, so the guest must have it from the beginning. */
  private activity(guest: string, run: string, path: Path): void {
    this.guest(guest, path);
    const { dom0, guests } = this.twin;
    const workload = guest === 'dom0' ? dom0.workload : (guests.find(({ name }) => name === guest)?.workload ?? []);
    if (workload.some((task) => task.run === run)) return;
    this.context.source.problem(path, `${guest} has no activity ${run}`, `add { run: ${run} } to its \`workload\``);
  }

  private invariant(invariant: string, path: Path): void {
    if (invariant === '*' || this.context.invariants === undefined) return;
    this.named('invariant', invariant, this.context.invariants, path);
  }

  private otherTwin(other: string, path: Path): void {
    this.named(
      'twin',
      other,
      this.context.twinNames.filter((n) => n !== this.twin.name),
      path,
    );
  }

  private named(what: string, word: string, known: readonly string[], path: Path): void {
    if (known.includes(word)) return;
    const guess = closestName(word, known);
    const message = `unknown ${what} \`${word}\`${guess ? ` (did you mean \`${guess}\`?)` : ''}`;
    this.context.source.problem(path, message, `${what}s there are: ${known.join(', ') || 'none'}`);
  }
}
