// How xl says what libxl gave back: its log on stderr, and the status.
import { logText } from '#formats/xl-output';
import type { LogLine } from '#model/toolstack/libxl-log';
import type { OpResult } from '#model/toolstack/ports';
import type { XlReply } from '#wire/messages';
import { EXIT_FAILURE, EXIT_OK } from './verb.ts';

const texts = (lines: readonly LogLine[]): string => lines.map((line) => `${logText(line)}\n`).join('');

export function replyOf(result: OpResult, stdout = ''): XlReply {
  return { exitCode: result.ok ? EXIT_OK : EXIT_FAILURE, stdout, stderr: texts(result.log) };
}
