"""What a page tries, in a browser's own words."""

from __future__ import annotations

BLANK = "<!doctype html><title>harmless</title><body></body>"

# Tries each kind against the service; answers for each `done`, or how it failed. Of what is sent blindly (`post`,
# `form`, `beacon`) a page learns nothing; it waits until the browser has an answer.
ATTACKS = """
async (service, kinds) => {
  const job = name => JSON.stringify({command: ["true"], draft: true, name});
  const loaded = (element, parent = document.body) => new Promise((resolve, reject) => {
    element.onload = () => resolve("done");
    element.onerror = () => reject("refused");
    parent.append(element);
  });
  const opened = (source) => new Promise((resolve, reject) => {
    source.onopen = () => { source.close(); resolve("done"); };
    source.onerror = () => { source.close(); reject("refused"); };
  });
  const embedded = (tag, path) => loaded(Object.assign(document.createElement(tag), {src: service + path}));
  const tries = {
    post: () => fetch(service + "/api/v1/jobs", {method: "POST", mode: "no-cors", body: job("post"),
      headers: {"Content-Type": "text/plain"}}),
    form: async () => {
      const sink = Object.assign(document.createElement("iframe"), {name: "sink"});
      document.body.append(sink);
      const form = Object.assign(document.createElement("form"), {method: "POST", enctype: "text/plain",
        action: service + "/api/v1/jobs", target: "sink"});
      const field = Object.assign(document.createElement("input"),
        {name: '{"command": ["true"], "draft": true, "name": "form', value: '"}'});
      form.append(field);
      document.body.append(form);
      await new Promise(resolve => { sink.onload = resolve; form.submit(); });
    },
    beacon: async () => {
      const finished = new Promise(resolve => new PerformanceObserver(list => {
        if (list.getEntries().some(entry => entry.initiatorType === "beacon")) resolve();
      }).observe({type: "resource", buffered: true}));
      navigator.sendBeacon(service + "/api/v1/jobs", new Blob([job("beacon")], {type: "text/plain"}));
      await finished;
    },
    read: async () => (await (await fetch(service + "/api/v1/jobs")).text()).includes("secret") ? "done" : "empty",
    store: async () => {
      const answer = await fetch(service + "/api/v1/jobs", {method: "POST", body: job("store"),
        headers: {"Content-Type": "application/json"}});
      return answer.status === 201 ? "done" : `answered ${answer.status}`;
    },
    stream: () => opened(new EventSource(service + "/api/v1/events")),
    poll: async () => (await (await fetch(service + "/socket.io/?EIO=4&transport=polling")).text())
      .startsWith("0{") ? "done" : "empty",
    websocket: () => opened(new WebSocket(service.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket")),
    script: path => embedded("script", path),
    image: path => embedded("img", path),
    frame: path => embedded("iframe", path),
  };
  const outcomes = {};
  for (const kind of kinds) {
    const [name, path] = kind.split(/:(.*)/);
    try { outcomes[kind] = await tries[name](path) ?? "sent"; }
    catch (error) { outcomes[kind] = `${error}`; }
  }
  return outcomes;
}
"""
