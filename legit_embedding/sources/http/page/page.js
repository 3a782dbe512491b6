// Puts the stream of events, the figures and the box to try a model together.

import { announce, render, verdict } from "./flow.js";
import { find, put } from "./format.js";
import { remember } from "./spark.js";
import { Stream, token } from "./stream.js";
import { offer } from "./try.js";

function showLive(isLive) {
  find("live").hidden = !isLive;
  find("ask").hidden = isLive;
}

const stream = new Stream({
  history: remember,
  event(figures) {
    showLive(true);
    put(find("link"), "Live");
    find("link").dataset.tone = "good";
    document.body.classList.remove("stale");
    render(figures);
    offer(figures);
  },
  lost(reason) {
    showLive(true);
    put(find("link"), "Reconnecting");
    find("link").dataset.tone = "bad";
    document.body.classList.add("stale");
    verdict("bad", "No connection", [`${reason}; trying again`]);
    announce("The connection to the worker is lost; trying again.");
    document.title = "No connection";
  },
  refused() {
    showLive(false);
    put(find("link"), "Not connected");
    find("link").dataset.tone = "";
    put(find("refused"), token.get() ? "The worker does not accept this token." : "");
    token.drop();
    find("token").focus();
  },
});

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(find("token").value.trim());
  find("token").value = "";
  stream.open();
});

stream.open();
