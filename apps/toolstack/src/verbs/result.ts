// How xl says what libxl gave back: its log on stderr, and for failures xl's own last word where it has one.
import type { OpResult } from '#model/toolstack/ports';
import type { XlReply } from '#wire/messages';
import { EXIT_FAILURE, EXIT_OK } from './verb.ts';

const lines = (level: string, texts: readonly string[]): string =>
  texts.map((text) => `libxl: ${level}: ${text}\n`).join('');

/** What the builder tells in passing; xl shows it with -v only. */
const isDetail = (text: string): boolean => text.startsWith('PHYSICAL MEMORY ALLOCATION');

/** `ownWord`: the failure's message is xl's, not libxl's. */
export function replyOf(result: OpResult, stdout = '', ownWord = false): XlReply {
  if (result.ok) {
    const warnings = result.log.filter((text) => !isDetail(text));
    return { exitCode: EXIT_OK, stdout, stderr: lines('warning', warnings) };
  }
  const log = result.log.filter((text) => !isDetail(text));
  const libxls = ownWord ? log.filter((text) => text !== result.message) : log;
  return { exitCode: EXIT_FAILURE, stdout, stderr: lines('error', libxls) + (ownWord ? `${result.message}\n` : '') };
}
