// xl create FILE [key=value…]: the file's text is read, the domain built, its guest placed and started.
import { type GuestConfigError, parseGuestConfig } from '#model/toolstack/guest-config';
import type { XlReply } from '#wire/messages';
import { decodeCreate } from '#wire/xl-create';
import { replyOf } from './result.ts';
import { domainList, EXIT_WRONG_ARGUMENTS, refused, type Verb, XlFailure } from './verb.ts';

function explain({ line, message, remedy }: GuestConfigError, source: string): string {
  const place = message.startsWith(`${source}:`) ? '' : `${source}${line === undefined ? '' : `:${line}`}: `;
  return `${place}${message}${remedy === undefined ? '' : `\n    → ${remedy}`}`;
}

export const create: Verb = async (xl, args): Promise<XlReply> => {
  const request = read(args);
  const { source, text, kernel } = request;
  const parsed = parseGuestConfig(text, source);
  const stdout = `Parsing config from ${source}\n`;
  const warnings = parsed.warnings.map((warning) => `${warning}\n`).join('');
  if (!parsed.ok) {
    const stderr = parsed.errors.map((error) => `${explain(error, source)}\n`).join('');
    return { ...refused(warnings + stderr), stdout };
  }
  const { config } = parsed;
  if ((await domainList(xl)).some(({ name }) => name === config.name)) {
    return { ...refused(`libxl: error: Domain with name "${config.name}" already exists.`), stdout };
  }
  const reply = replyOf(await xl.domains.create(config, kernel), stdout);
  return { ...reply, stderr: warnings + reply.stderr };
};

function read(args: readonly string[]): ReturnType<typeof decodeCreate> {
  try {
    return decodeCreate(args);
  } catch (error) {
    throw new XlFailure((error as Error).message, EXIT_WRONG_ARGUMENTS); // decodeCreate throws Errors only
  }
}
