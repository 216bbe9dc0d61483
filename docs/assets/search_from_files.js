// Browsers start no worker of a page that was opened from a file. There the search, which is one,
// runs in a hidden frame instead: the frame is its global scope, and messages are events.
if (location.protocol === "file:") {
  const load = (frame, address) =>
    new Promise((done, failed) => {
      const script = frame.contentDocument.createElement("script");
      script.src = address;
      script.onload = done;
      script.onerror = () => failed(new Error(`${address} could not be read`));
      frame.contentDocument.head.append(script);
    });

  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.scope = new Promise((done, failed) => {
        frame.onload = () => {
          const scope = frame.contentWindow;
          scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          scope.importScripts = (...more) =>
            more.reduce((before, next) => before.then(() => load(frame, next)), Promise.resolve());
          load(frame, new URL(address, location.href).href).then(() => done(scope), failed);
        };
      });
      document.documentElement.append(frame);
      this.frame = frame;
    }

    postMessage(data) {
      this.scope.then((scope) => scope.dispatchEvent(new scope.MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
