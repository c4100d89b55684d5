"""An RTSP camera of GStreamer's, for ``streams.RtspCamera``: runs under the system's Python, which has ``gi``.

``rtsp_server.py PORT h264|mjpeg`` serves rtsp://127.0.0.1:PORT/camera; without arguments it only tries its imports.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  (the versions are chosen first)

CODECS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=20 bitrate=2000 ! rtph264pay name=pay0 pt=96",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
SOURCE = "videotestsrc is-live=true pattern=smpte ! video/x-raw,format=I420,width=320,height=240,framerate=20/1"


def main(port: str, codec: str) -> None:
    """Serve until killed."""
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory(launch=f"( {SOURCE} ! {CODECS[codec]} )", shared=True)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


Gst.init(None)
missing = [
    name for name in ("x264enc", "jpegenc", "rtph264pay", "videotestsrc") if Gst.ElementFactory.find(name) is None
]
if missing:
    sys.exit(f"GStreamer has no {', '.join(missing)}")
if len(sys.argv) > 1:
    main(*sys.argv[1:])
