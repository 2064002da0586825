// A host with its dashboard, started as a user starts it, and the address of the page with its token.
import { resolve } from 'node:path';
import { type Running, type Sandbox, until } from './hostloom.ts';

export interface Dashboard {
  readonly running: Running;
  /** Without a path. */
  readonly origin: string;
  readonly token: string;
  readonly page: string;
}

const STARTED = /dashboard: (http:\/\/[^/]+)\/#token=(\S+)/;

export async function startDashboard(sandbox: Sandbox, what: string): Promise<Dashboard> {
  const running = sandbox.start('up', resolve(what));
  await until('the dashboard serves', () => STARTED.test(running.said()), 90_000);
  const [, origin = '', token = ''] = STARTED.exec(running.said()) ?? [];
  return { running, origin, token, page: `${origin}/#token=${token}` };
}

export async function endHost({ running }: Dashboard): Promise<void> {
  running.child.kill('SIGINT');
  await running.ended;
}
