// `hostloom inspect xlcfg`: what a guest's configuration says about memory and devices, and what xl says to the file.
import { readXlcfgFile } from '#formats/xlcfg-inspection';
import type { InspectedFile, Inspection } from './inspector.ts';

export function inspectXlcfg(file: InspectedFile): Inspection {
  // A byte order mark is no blank to xl.
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(file.bytes);
  const { object, text: table, complaints, refused } = readXlcfgFile(text, file.name);
  return { json: object, text: table, complaints, refused };
}
