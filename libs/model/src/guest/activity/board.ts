// The words that the vCPUs of one activity share: how far it has come, for whom, and its figures. Any of them may write.

const TURN = 0;
const STATE = 1;
const WANTED = 2;
const ATTEMPTS = 3;
const PARKED = 4;
/** The order to begin that was heard last. */
const BEGUN = 5;
const PEERS = 6;
const MAX_PEERS = 4;
const NOTES = PEERS + MAX_PEERS;
const MAX_NOTES = 24;
const FIGURES = NOTES + MAX_NOTES;

export const boardState = { idle: 0, opening: 1, running: 2, ending: 3, failed: 4 } as const;
type BoardState = (typeof boardState)[keyof typeof boardState];
/** The word STATE also says of which order the state is. */
const STATES = 8;

export const boardBytes = (figures: number): number => (FIGURES + figures) * 4;

export class Board<F extends string> {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly names: readonly F[];

  constructor(buffer: SharedArrayBuffer, names: readonly F[]) {
    this.words = new Int32Array(buffer);
    this.names = names;
  }

  /** Orders of a run come to every vCPU: the first to hear one writes it down. */
  begin(turn: number, peers: readonly number[], attempts: number): void {
    if (!this.takeTurn(turn)) return;
    Atomics.store(this.words, WANTED, attempts);
    Atomics.store(this.words, ATTEMPTS, 0);
    Atomics.store(this.words, PARKED, 0);
    for (let i = 0; i < MAX_PEERS; i++) Atomics.store(this.words, PEERS + i, peers[i] ?? -1);
    this.words.fill(0, NOTES);
    Atomics.store(this.words, BEGUN, turn);
    this.settle(turn, boardState.opening);
  }

  end(turn: number): void {
    if (!this.takeTurn(turn)) return;
    const going = this.state === boardState.opening || this.state === boardState.running;
    Atomics.store(this.words, PARKED, 0);
    this.settle(turn, going ? boardState.ending : this.state);
  }

  private settle(turn: number, state: BoardState): void {
    Atomics.store(this.words, STATE, turn * STATES + state);
  }

  /** Whether what the order asks for can be read from the state yet. */
  hasSettled(turn: number): boolean {
    return Math.floor(Atomics.load(this.words, STATE) / STATES) >= turn;
  }

  private takeTurn(turn: number): boolean {
    const before = Atomics.load(this.words, TURN);
    return turn > before && Atomics.compareExchange(this.words, TURN, before, turn) === before;
  }

  get turn(): number {
    return Atomics.load(this.words, TURN);
  }
  get state(): BoardState {
    return (Atomics.load(this.words, STATE) % STATES) as BoardState; // nothing else is stored
  }
  /** The first vCPU's alone, between two orders. */
  set state(state: BoardState) {
    const now = Atomics.load(this.words, STATE);
    Atomics.compareExchange(this.words, STATE, now, now - (now % STATES) + state);
  }
  get begun(): number {
    return Atomics.load(this.words, BEGUN);
  }
  get wanted(): number {
    return Atomics.load(this.words, WANTED);
  }
  get attempts(): number {
    return Atomics.load(this.words, ATTEMPTS);
  }
  /** All that were asked for are made; never without a number. */
  get enough(): boolean {
    return this.wanted > 0 && this.attempts >= this.wanted;
  }

  attempt(count = 1): void {
    Atomics.add(this.words, ATTEMPTS, count);
  }

  park(): void {
    Atomics.add(this.words, PARKED, 1);
  }
  get parked(): number {
    return Atomics.load(this.words, PARKED);
  }

  peer(index: number): number {
    return Atomics.load(this.words, PEERS + index);
  }

  /** Words of the activity's own. */
  note(index: number): number {
    return Atomics.load(this.words, NOTES + index);
  }
  setNote(index: number, value: number): void {
    Atomics.store(this.words, NOTES + index, value);
  }

  add(name: F, amount = 1): void {
    Atomics.add(this.words, FIGURES + this.names.indexOf(name), amount);
  }
  figures(): Record<string, number> {
    return Object.fromEntries(this.names.map((name, i) => [name, Atomics.load(this.words, FIGURES + i)]));
  }
}
