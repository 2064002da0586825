// Scenario files (scenarios/*.yaml): reads one, merges each twin over the scenario's own keys, loads the host and the guests'
// xl.cfg files it names, and answers runs with nothing left to look up; or throws one OperatorError with every mistake.
// Owns the merging rules: `dom0`, `policies` and a guest's `set` by key, guests by name, everything else replaced whole.
import { basename, extname } from 'node:path';
import { toFault } from './fault-plan-file.ts';
import { isInline, readGuestText, resolvePath, shownPath } from './guest-text.ts';
import { type HostDescription, loadHost, readText } from './host-file.ts';
import { OperatorError } from './operator-error.ts';
import { policyMistake, resolvePolicies } from './policies.ts';
import type { Assertion, GuestText, Scenario, ScenarioGuest, Step, Twin } from './scenario.ts';
import { toAssertion } from './scenario-assertions.ts';
import { checkTwin, type TwinPlaces } from './scenario-checks.ts';
import { scenarioSchema, type WrittenBody, type WrittenGuest, type WrittenScenario } from './scenario-schema.ts';
import { toStep, toWorkload } from './scenario-steps.ts';
import { type Path, YamlSource } from './yaml-source.ts';

const DEFAULT_TIME_SCALE = 10;
const DEFAULT_ATTEMPTS = 200;
const TWIN_NAME = /^[a-z0-9][a-z0-9-]{0,40}$/;

export interface ScenarioOptions {
  /** The repository's root: paths not found beside the scenario are looked up from here. */
  readonly root: string;
  /** Names of the invariants there are; without it any name passes. */
  readonly invariants?: readonly string[];
}

export function loadScenario(path: string, options: ScenarioOptions): Scenario {
  const file = shownPath(path, options.root);
  return parseScenario(readText(path, file, 'name a scenario, such as scenarios/pod-gpu-dma.yaml'), path, options);
}

/** `path` is where the text came from: files it names are looked up beside it. */
export function parseScenario(text: string, path: string, options: ScenarioOptions): Scenario {
  const source = new YamlSource(text, shownPath(path, options.root));
  refuseHost(source);
  const written = source.check(scenarioSchema, []);
  source.throwIfAny();
  if (!written) throw new Error('parseScenario: a refused file without a problem');
  const twins = new TwinReader(source, written, path, options).all();
  source.throwIfAny();
  return { file: source.file, name: basename(path, extname(path)), question: written.question, twins };
}

/** The two kinds of file lie side by side and are easily mistaken. */
function refuseHost(source: YamlSource): void {
  if (source.at(['memoryMap']) === undefined || source.at(['question']) !== undefined) return;
  const remedy = `to start it: hostloom up ${source.file}; to ask it something: a scenario with \`host: ${source.file}\``;
  source.problem(['memoryMap'], 'this describes a host, not a scenario', remedy, true);
  source.throwIfAny();
}

/** A twin's body and where it stands: the scenario's own keys first, then the twin's. */
interface Layer {
  readonly path: Path;
  readonly body: WrittenBody;
}

class TwinReader {
  private readonly source: YamlSource;
  private readonly written: WrittenScenario;
  private readonly path: string;
  private readonly options: ScenarioOptions;
  private readonly hosts = new Map<string, HostDescription | null>();
  private readonly texts = new Map<string, GuestText | null>();

  constructor(source: YamlSource, written: WrittenScenario, path: string, options: ScenarioOptions) {
    this.source = source;
    this.written = written;
    this.path = path;
    this.options = options;
  }

  all(): Twin[] {
    const base: Layer = { path: [], body: this.written };
    this.checkPolicies(base);
    const named = Object.entries(this.written.twins ?? {});
    if (named.length === 0) {
      const twin = this.twin('plain', 'plain', this.written.question, [base]);
      return twin ? [twin] : [];
    }
    const twins: Twin[] = [];
    for (const [name, body] of named) {
      const path = ['twins', name];
      if (!TWIN_NAME.test(name)) {
        this.source.problem(path, `\`${name}\` is not a good name`, 'use small letters, digits and dashes', true);
      }
      const layer = { path, body };
      this.checkPolicies(layer);
      const twin = this.twin(name, body.kind, body.title, [base, layer]);
      if (twin) twins.push(twin);
    }
    return twins;
  }

  private twin(name: string, kind: Twin['kind'], title: string, layers: readonly Layer[]): Twin | null {
    const own = layers[layers.length - 1]?.path ?? [];
    const host = this.host(layers, own);
    const attempts = last(layers, (b) => b.attempts)?.value ?? DEFAULT_ATTEMPTS;
    const timeline = this.steps(layers, own, attempts);
    const expect = this.assertions(layers, own);
    const guests = this.guests(layers);
    if (!host || !timeline || !expect || !guests) return null;
    const policies = Object.assign({}, ...layers.map((l) => l.body.policies ?? {})) as Record<string, unknown>; // merged
    if (Object.entries(policies).some(([knob, value]) => policyMistake(knob, value))) return null;
    const twin: Twin = {
      line: this.source.keyLine(own),
      name,
      kind,
      title,
      host,
      dom0: {
        memoryMb: last(layers, (b) => b.dom0?.memoryMb)?.value ?? host.dom0.memoryMb,
        vcpus: last(layers, (b) => b.dom0?.vcpus)?.value ?? host.dom0.vcpus,
        workload: (last(layers, (b) => b.dom0?.workload)?.value ?? []).map(toWorkload),
      },
      policies: resolvePolicies(policies),
      timeScale: last(layers, (b) => b.timeScale)?.value ?? DEFAULT_TIME_SCALE,
      attempts,
      guests,
      timeline,
      faults: (last(layers, (b) => b.faults)?.value ?? []).map(toFault),
      expect,
    };
    const context = {
      source: this.source,
      twinNames: Object.keys(this.written.twins ?? {}),
      invariants: this.options.invariants,
    };
    checkTwin(twin, placesOf(layers), context);
    return twin;
  }

  private checkPolicies({ path, body }: Layer): void {
    for (const [knob, value] of Object.entries(body.policies ?? {})) {
      const mistake = policyMistake(knob, value);
      if (mistake) this.source.problem([...path, 'policies', knob], mistake.message, mistake.remedy, true);
    }
  }

  private host(layers: readonly Layer[], own: Path): HostDescription | null {
    const found = last(layers, (b) => b.host);
    if (!found) {
      this.source.problem(own, 'no host', 'add `host: hosts/seed-2014-haswell.yaml` or another of hosts/');
      return null;
    }
    const place = resolvePath(found.value, this.path, this.options.root);
    const known = this.hosts.get(place);
    if (known !== undefined) return known;
    const host = this.rescue([...found.path, 'host'], () => loadHost(place, shownPath(place, this.options.root)));
    this.hosts.set(place, host);
    return host;
  }

  /** A missing file is a mistake of the line that names it; a file with mistakes of its own tells them itself. */
  private rescue<T>(path: Path, read: () => T): T | null {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof OperatorError) || error.line !== undefined) throw error;
      const [problem] = error.problems;
      if (problem) this.source.problem(path, `${problem.file}: ${problem.message}`, problem.remedy);
      return null;
    }
  }

  private steps(layers: readonly Layer[], own: Path, attempts: number): Step[] | null {
    const found = last(layers, (b) => b.timeline);
    if (!found) {
      this.source.problem(own, 'no timeline', 'add `timeline:` with at least one step');
      return null;
    }
    const steps = found.value.map((s, i) => toStep(s, [...found.path, 'timeline', i], this.source, attempts));
    return steps.every((s) => s !== null) ? steps : null;
  }

  private assertions(layers: readonly Layer[], own: Path): Assertion[] | null {
    const found = last(layers, (b) => b.expect);
    if (!found) {
      this.source.problem(own, 'no `expect`: the run would judge nothing', 'add at least one assertion');
      return null;
    }
    const all = found.value.map((_, i) => toAssertion([...found.path, 'expect', i], this.source));
    return all.every((a) => a !== null) ? all : null;
  }

  private guests(layers: readonly Layer[]): ScenarioGuest[] | null {
    const merged = new Map<string, { guest: WrittenGuest; place: Path; firstPlace: Path; configPlace: Path }>();
    let good = true;
    for (const { path, body } of layers) {
      const seen = new Map<string, number>();
      for (const [i, guest] of (body.guests ?? []).entries()) {
        const place = [...path, 'guests', i];
        const twice = seen.get(guest.name);
        if (twice !== undefined || guest.name === 'dom0') {
          const line = twice === undefined ? 0 : this.source.line([...path, 'guests', twice]);
          const message =
            twice === undefined
              ? '`dom0` is not a name for a guest'
              : `guest \`${guest.name}\` is already on line ${line}`;
          this.source.problem([...place, 'name'], message, 'give each guest a name of its own');
          good = false;
          continue;
        }
        seen.set(guest.name, i);
        const before = merged.get(guest.name);
        const set = { ...before?.guest.set, ...guest.set };
        const configPlace = guest.config === undefined ? (before?.configPlace ?? place) : [...place, 'config'];
        const firstPlace = before?.firstPlace ?? place;
        merged.set(guest.name, { guest: { ...before?.guest, ...defined(guest), set }, place, firstPlace, configPlace });
      }
    }
    const guests: ScenarioGuest[] = [];
    for (const { guest, place, firstPlace, configPlace } of merged.values()) {
      const config = this.guestText(guest, firstPlace, configPlace);
      if (!config) good = false;
      else {
        const workload = (guest.workload ?? []).map(toWorkload);
        guests.push({ line: this.source.line(place), name: guest.name, config, set: guest.set ?? {}, workload });
      }
    }
    return good ? guests : null;
  }

  private guestText(guest: WrittenGuest, place: Path, configPlace: Path): GuestText | null {
    if (guest.config === undefined) {
      this.source.problem(
        place,
        `guest \`${guest.name}\` has no config`,
        'add `config:` with the path of an xl.cfg file',
      );
      return null;
    }
    if (isInline(guest.config)) {
      return { file: this.source.file, firstLine: this.source.textLine(configPlace), text: guest.config };
    }
    const path = resolvePath(guest.config, this.path, this.options.root);
    const known = this.texts.get(path);
    if (known) return known;
    const text = this.rescue(configPlace, () => readGuestText(path, this.options.root));
    this.texts.set(path, text);
    return text;
  }
}

/** What the last layer that says it says, and that layer's place. */
function last<T>(
  layers: readonly Layer[],
  pick: (body: WrittenBody) => T | undefined,
): { value: T; path: Path } | null {
  for (const { path, body } of layers.toReversed()) {
    const value = pick(body);
    if (value !== undefined) return { value, path };
  }
  return null;
}

/** Without the keys that are absent, so that they do not hide those of the layer below. */
function defined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T; // optional keys only
}

function placesOf(layers: readonly Layer[]): TwinPlaces {
  const place = (pick: (body: WrittenBody) => unknown, ...rest: Path): Path => [
    ...(last(layers, pick)?.path ?? []),
    ...rest,
  ];
  return {
    dom0Memory: place((b) => b.dom0?.memoryMb, 'dom0', 'memoryMb'),
    dom0Workload: place((b) => b.dom0?.workload, 'dom0', 'workload'),
    guestWorkload: (guest) => {
      const indexIn = (b: WrittenBody): number => b.guests?.findIndex((g) => g.name === guest && g.workload) ?? -1;
      const found = last(layers, (b) => (indexIn(b) >= 0 ? indexIn(b) : undefined));
      return found ? [...found.path, 'guests', found.value, 'workload'] : [];
    },
    timeline: place((b) => b.timeline, 'timeline'),
    expect: place((b) => b.expect, 'expect'),
  };
}
