// `hostloom xl VERB…`: hands a verb to the toolstack of a host that runs on this machine, prints what it prints, ends as it ends.
// Only `create` is more than passing on: the toolstack is given the text of the file.
import { readFileSync } from 'node:fs';
import { connect } from '#wire/connection';
import { NobodyTook, openControl, ReplyUnknown, xlControl } from '#wire/control';
import type { XlReply } from '#wire/messages';
import { encodeCreate } from '#wire/xl-create';
import { CommandError, EXIT_UNKNOWN, EXIT_USAGE } from '../exit-codes.ts';
import { chooseHost } from '../launcher/host-registry.ts';

const TAKE_MS = 10_000;
const REPLY_MS = 120_000;
const CLOSE_MS = 500;
/** A verb that nobody sees the end of prints this and leaves with EXIT_UNKNOWN. */
const UNKNOWN_REMEDY = 'look with `hostloom xl list` whether it happened';

export interface XlOptions {
  readonly host?: string;
  readonly json: boolean;
}

export async function xlCommand(words: readonly string[], options: XlOptions): Promise<number> {
  const [verb, ...rest] = words;
  if (verb === undefined) throw new CommandError('no verb', 'for example: hostloom xl list', EXIT_USAGE);
  const args = verb === 'create' ? createArguments(rest) : options.json ? [...rest, '--json'] : rest;
  const reply = await ask(options.host, verb, args);
  process.stdout.write(reply.stdout);
  process.stderr.write(reply.stderr);
  return reply.exitCode;
}

async function ask(host: string | undefined, verb: string, args: readonly string[]): Promise<XlReply> {
  const { hostId, redis: endpoint } = chooseHost(host);
  const redis = connect(endpoint);
  const xl = await openControl(redis, hostId, xlControl);
  try {
    return await xl.request({ verb, args: [...args] }, TAKE_MS, REPLY_MS);
  } catch (error) {
    if (error instanceof NobodyTook) {
      throw new CommandError(
        `the toolstack of host ${hostId} does not answer`,
        'is it still starting? try again, or start the host anew',
        EXIT_UNKNOWN,
      );
    }
    if (error instanceof ReplyUnknown) throw new CommandError(error.message, UNKNOWN_REMEDY, EXIT_UNKNOWN);
    throw error;
  } finally {
    // The host may be ending: nothing is waited for long.
    await Promise.race([xl.close(), new Promise((settle) => setTimeout(settle, CLOSE_MS))]);
    redis.disconnect();
  }
}

/** `create FILE [key=value…]`. */
function createArguments([file, ...settings]: readonly string[]): string[] {
  if (file === undefined)
    throw new CommandError('create needs a file', 'hostloom xl create FILE.cfg [key=value…]', EXIT_USAGE);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new CommandError(
      `${file} cannot be read (${why})`,
      'name an xl.cfg, such as scenarios/guests/win7-office.cfg',
      EXIT_USAGE,
    );
  }
  return encodeCreate({ source: file, text, kernel: { balloon: { enabled: true } }, settings });
}
