// `hostloom up [HOST|SCENARIO]`: a whole host that stays up until Ctrl-C, for `hostloom xl` from other terminals. Of a scenario it
// takes the host, the policies and dom0; its guests are created by hand.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { shownPath } from '#formats/guest-text';
import { loadHost } from '#formats/host-file';
import { resolvePolicies } from '#formats/policies';
import { loadScenario } from '#formats/scenario-file';
import { makeDirectory } from '../directory.ts';
import { HostInstance } from '../launcher/host-instance.ts';
import { type HostPlan, planOfHost, planOfTwin } from '../launcher/host-plan.ts';
import { repositoryRoot } from '../repository.ts';
import type { Output } from '../terminal.ts';

const DEFAULT_HOST = 'hosts/seed-2014-haswell.yaml';
const TOKEN_BYTES = 16;
/** Only a scenario asks a question. */
const IS_SCENARIO = /^(question|timeline|twins)\s*:/m;

export interface UpOptions {
  readonly logs?: string;
  /** false: no dashboard. */
  readonly dashboard?: boolean;
  /** Of the dashboard. */
  readonly port?: number;
  readonly bind?: string;
}

export async function upCommand(
  file: string | undefined,
  options: UpOptions,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const plan = planFor(file ?? join(repositoryRoot, DEFAULT_HOST));
  const logDir = options.logs ? resolve(options.logs) : mkdtempSync(join(tmpdir(), 'hostloom-logs-'));
  makeDirectory(logDir);
  try {
    const host = await HostInstance.start({ plan, logDir, onPhase: (text) => output.progress(text) }, signal);
    try {
      host.superviseToolstack((text) => output.line(text));
      output.line(`host ${host.hostId} is up (${plan.label}); logs in ${logDir}`);
      const dashboard = options.dashboard === false ? null : await startDashboard(host, options, output, signal);
      output.line('in another terminal: hostloom xl list, hostloom xl create FILE.cfg, hostloom xl dmesg');
      output.line('Ctrl-C ends it');
      output.json({ hostId: host.hostId, host: plan.config.name, logs: logDir, dashboard });
      await untilOver(host, signal);
    } finally {
      await host.stop();
    }
  } finally {
    if (!options.logs) rmSync(logDir, { recursive: true, force: true });
  }
  output.line('ended');
  return 0;
}

/**
 * Prints where the page is. A token that the operator set is his to keep; one made here is printed once, behind the `#` of the address,
 * which a browser sends to nobody.
 */
async function startDashboard(
  host: HostInstance,
  { port = 0, bind }: UpOptions,
  output: Output,
  signal: AbortSignal,
): Promise<string | null> {
  const given = process.env.HOSTLOOM_TOKEN;
  const token = given ?? randomBytes(TOKEN_BYTES).toString('base64url');
  try {
    const url = await host.startDashboard({ port, token, ...(bind === undefined ? {} : { bind }) });
    const page = given === undefined ? `${url}#token=${token}` : url;
    output.line(`dashboard: ${page}`);
    return page;
  } catch (error) {
    // Told to end meanwhile: that is no news.
    if (!signal.aborted) output.warn(`no dashboard: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

/** Ctrl-C is how it ends well; anything else throws. */
function untilOver(host: HostInstance, signal: AbortSignal): Promise<void> {
  return new Promise((settle, reject) => {
    signal.addEventListener('abort', () => settle(), { once: true });
    if (signal.aborted) settle();
    void host.gone.then(reject);
  });
}

function planFor(file: string): HostPlan {
  const path = resolve(file);
  if (isScenario(path)) {
    const scenario = loadScenario(path, { root: repositoryRoot });
    const [twin] = scenario.twins;
    if (twin) return { ...planOfTwin(scenario.name, twin), record: false };
  }
  return planOfHost(loadHost(path, shownPath(path, repositoryRoot)), resolvePolicies({}));
}

function isScenario(path: string): boolean {
  try {
    return IS_SCENARIO.test(readFileSync(path, 'utf8'));
  } catch {
    return false; // the loader says what is wrong with it
  }
}
