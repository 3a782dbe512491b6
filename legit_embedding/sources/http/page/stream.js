// The worker's events, read with fetch: an EventSource cannot send a token.

const TOKEN = "legit_embedding.token";
const SILENT_MS = 10_000;
const SOONEST_MS = 1000;
const LATEST_MS = 15_000;

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
  drop: () => sessionStorage.removeItem(TOKEN),
};

export function authorized(headers = {}) {
  return token.get() ? { ...headers, Authorization: `Bearer ${token.get()}` } : headers;
}

export class Stream {
  // `on` has the functions history(list), event(figures), lost(reason) and refused().
  constructor(on) {
    this.on = on;
    this.pause = SOONEST_MS;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
  }

  open() {
    this.close();
    if (!document.hidden) this.read(this.opened = new AbortController());
  }

  // A page that nobody sees costs the worker nothing.
  close() {
    clearTimeout(this.timer);
    this.opened?.abort();
    this.opened = null;
  }

  async read(opened) {
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => opened.abort(), SILENT_MS);
    };
    try {
      heard();
      const response = await fetch("events", { headers: authorized(), signal: opened.signal, cache: "no-store" });
      if (response.status === 401) {
        this.opened = null;
        return this.on.refused();
      }
      if (!response.ok) throw new Error(`the worker answered ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new Error("the worker ended the connection");
        heard();
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach((block) => this.take(block));
        this.pause = SOONEST_MS;
      }
    } catch (error) {
      if (this.opened !== opened) return;
      this.on.lost(opened.signal.aborted ? "the worker is silent" : error.message);
      this.timer = setTimeout(() => this.open(), this.pause);
      this.pause = Math.min(2 * this.pause, LATEST_MS);
    } finally {
      clearTimeout(silence);
    }
  }

  take(block) {
    const lines = block.split("\n");
    const data = JSON.parse(lines.find((line) => line.startsWith("data: ")).slice(6));
    if (lines[0] === "event: history") this.on.history(data);
    else this.on.event(data);
  }
}
