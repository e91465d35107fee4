class DrawError(RuntimeError): pass
