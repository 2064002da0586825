// What an invariant found wrong: a sentence with its numbers. A broken host breaks an invariant a million times; the first
// few say it as well.

export interface Finding {
  readonly text: string;
  readonly evidence: Readonly<Record<string, number | string>>;
}

const KEPT = 4;

export class Findings {
  private readonly byName = new Map<string, Finding[]>();

  add(invariant: string, text: string, evidence: Finding['evidence']): void {
    const list = this.byName.get(invariant) ?? [];
    if (list.length < KEPT) list.push({ text, evidence });
    this.byName.set(invariant, list);
  }

  of(invariant: string): readonly Finding[] {
    return this.byName.get(invariant) ?? [];
  }
}
